#!/usr/bin/env python3
"""The JSON of cpu_peers.sh as plots, by gnuplot: STEM.svg and STEM.png have the steps of each model,
STEM-servers.svg and .png the servers; a plot for which the JSON has nothing is left out.

    bench/cpu_peers_plot.py RESULTS.json STEM
"""
import argparse
import json
import pathlib
import subprocess
import sys

from cpu_peers_figures import OF_CASE, OVER, in_order, title_of

QUIRE, LLAMA = "#0b5fa5", "#d95f02"  # as in the plots of quire bench
WIDTH, TOP, BOTTOM = 1100, 75, 0  # pixels


def short_name(name):
    """"decode, batch 8, context 64" as "8 x 64": sequences, and the tokens that each holds."""
    return name.replace("decode, batch ", "").replace(", context ", " x ")


# ---- panels: a line of data is a place on the x axis, then numbers and labels ----

def steps_panel(model, names):
    """A place, both fractions, where the label stands, and the label: the ratio."""
    cases = {row["name"]: row for row in model["cases"]}
    lines = []
    for place, name in enumerate(names):
        if "ratio" in cases.get(name, {}):
            row = cases[name]
            own, peer = row["fraction_of_limit"], row["llama_fraction_of_limit"]
            lines.append(f"{place} {own} {peer} {max(own, peer)} \"{row['ratio']:.2f} x\"")
    return lines


def server_rows(model):
    """By figure: how many times better Quire is, and the label with both figures."""
    return {f"{title_of(server)}\\n{figure.name}\\n{figure.unit}":
            (figure.times_better(server["quire"], server["llama"]),
             f"{figure.text(server['quire'])}\\n{figure.text(server['llama'])}")
            for server in model["servers"] if server["llama"]
            for figure in OF_CASE[server["case"]] if figure != OVER}  # which can be below 0


def servers_panel(model, names):
    """A place, the ratio, lines from its end to its label, its colour, that label, both figures."""
    rows = server_rows(model)
    lines = []
    for place, name in enumerate(names):
        if name in rows:
            ratio, label = rows[name]
            above, colour = (0.6, QUIRE) if ratio >= 1 else (-0.6, LLAMA)
            lines.append(f"{place} {ratio} {above} 0x{colour[1:]} \"{ratio:.2f} x\" \"{label}\"")
    return lines


# ---- gnuplot ----

class Picture:
    """Panels of one kind, a model each, below each other."""

    def __init__(self, title, y_label, names, panel_height):
        self.title, self.y_label, self.names = title, y_label, names
        self.panel_height = panel_height
        self.panels = []  # the model, its lines of data, settings of its own

    def height(self):
        return TOP + len(self.panels) * self.panel_height + BOTTOM

    def head(self, results):
        return f"""set style fill solid
set border 3
set tics nomirror
set grid ytics lt 1 lc rgb '#dddddd'
set ylabel "{self.y_label}"
set xrange [-0.6:{len(self.names) - 0.4}]
set lmargin 10
set rmargin 3
set multiplot
set label 1 "{self.title}\\n{results['processor']}, {results['cores']} cores; Quire {results['commit']}" \\
    at screen 0.02,{1 - 20 / self.height()} noenhanced
set key at screen 0.98,screen {1 - 30 / self.height()} right top horizontal
"""

    def panel(self, number, plot):
        model, lines, settings = self.panels[number]
        top = 1 - (TOP + number * self.panel_height) / self.height()
        bottom = top - (self.panel_height - 75) / self.height()
        tics = ", ".join(f'"{name}" {place}' for place, name in enumerate(self.names))
        data = "\n".join(lines)
        title = f"{model['shape']} {model['type'].upper()}, {model['weight_bytes'] / 1e6:.0f} MB"
        return f"""$panel{number} << END
{data}
END
set tmargin at screen {top}
set bmargin at screen {bottom}
set title "{title}" noenhanced offset 0,-0.6
set xtics ({tics}) font ",9"
{settings}
plot {plot.format(data=f"$panel{number}")}
unset label 1
unset key
"""

    def script(self, results, plot):
        panels = "".join(self.panel(number, plot) for number in range(len(self.panels)))
        return f"{self.head(results)}{panels}unset multiplot\n"


def draw(stem, picture, results, plot):
    if not picture.panels:
        return
    text = picture.script(results, plot)
    size = f"size {WIDTH},{picture.height()}"
    for terminal, suffix in ((f"svg {size} font 'sans,13' background '#ffffff'", "svg"),
                             (f"pngcairo {size} font 'sans,10'", "png")):
        whole = f"set terminal {terminal}\nset output '{stem}.{suffix}'\n{text}"
        done = subprocess.run(["gnuplot"], input=whole, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            sys.exit(f"cpu_peers_plot.py: gnuplot: {done.stderr}")


def draw_steps(results, stem):
    names = in_order([row["name"] for row in model["cases"]] for model in results["models"])
    picture = Picture("Steps: the part of the machine's limit that is reached, and Quire's tokens/s over "
                    "llama.cpp's", "of the limit", [short_name(name) for name in names], 215)
    settings = "set boxwidth 0.36\nset yrange [0:*]\nset offsets 0, 0, graph 0.14, 0"
    picture.panels = [(model, lines, settings) for model in results["models"]
                     if (lines := steps_panel(model, names))]
    draw(stem, picture, results,
         f"{{data}} using ($1-0.19):2 with boxes lc rgb '{QUIRE}' title 'Quire', "
         f"{{data}} using ($1+0.19):3 with boxes lc rgb '{LLAMA}' title 'llama.cpp', "
         "{data} using 1:4:5 with labels offset 0,0.6 font ',10' notitle")


def draw_servers(results, stem):
    names = in_order(server_rows(model) for model in results["models"])
    picture = Picture("Servers: how many times better Quire is than llama.cpp; above, Quire's figure and "
                    "llama.cpp's", "times better", names, 265)
    for model in results["models"]:
        lines = servers_panel(model, names)
        if lines:
            ratios = [ratio for ratio, _ in server_rows(model).values()] + [1]
            low, high = min(ratios) / 2, max(ratios)
            top = high * (high / low) ** 0.25  # of the figures, above the label of the highest bar
            picture.panels.append((model, lines, "set logscale y 2\n"
                                  f"set yrange [{low}:{high * (high / low) ** 0.45}]\ntop = {top}"))
    draw(f"{stem}-servers", picture, results,
         "{data} using 1:2:($1-0.3):($1+0.3):(1):2:4 with boxxyerror lc rgb variable notitle, "
         "1 lc rgb '#000000' notitle, "
         "{data} using 1:($3 > 0 ? $2 : NaN):5 with labels offset 0,0.6 font ',9' notitle, "
         "{data} using 1:($3 < 0 ? $2 : NaN):5 with labels offset 0,-0.6 font ',9' notitle, "
         "{data} using 1:(top):6 with labels offset 0,0.9 font ',9' notitle")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("stem", help="of the files that are written")
    options = parser.parse_args()
    results = json.loads(options.results.read_text())
    draw_steps(results, options.stem)
    draw_servers(results, options.stem)


main()
