"""What cpu_peers_report.py, cpu_peers_plot.py and cpu_peers_tables.py show of a server."""
import typing


class Figure(typing.NamedTuple):
    key: str  # in the JSON
    name: str
    unit: str
    scale: float  # from the JSON's number to one of that unit
    digits: int
    more_is_better: bool = False

    def text(self, figures):
        return f"{figures[self.key] * self.scale:.{self.digits}f}"

    def times_better(self, own, peer):
        own, peer = own[self.key], peer[self.key]
        return own / peer if self.more_is_better else peer / own


RESIDENT = Figure("resident_bytes", "memory", "MB", 1e-6, 0)
OVER = Figure("over_weights_and_kv_bytes", "over weights, KV", "MB", 1e-6, 1)
OF_CASE = {"start": (Figure("start_s", "to ready", "ms", 1e3, 0),
                     Figure("first_token_s", "to a token", "ms", 1e3, 0), RESIDENT, OVER),
           "clients": (Figure("tokens_per_s", "tokens/s", "", 1, 0, more_is_better=True),
                       Figure("ttft_p50_s", "p50 TTFT", "ms", 1e3, 0),
                       Figure("ttft_p99_s", "p99 TTFT", "ms", 1e3, 0),
                       Figure("itl_p50_s", "p50 ITL", "ms", 1e3, 1),
                       Figure("itl_p99_s", "p99 ITL", "ms", 1e3, 1), RESIDENT, OVER)}


def title_of(server):
    return "start" if server["case"] == "start" else f"{server['clients']} clients"


def label_of(server, figure):
    return f"{title_of(server)}: {figure.name}{figure.unit and ', '}{figure.unit}"


def in_order(lists):
    """What any of the lists has, in the order in which it came first."""
    return list(dict.fromkeys(name for names in lists for name in names))
