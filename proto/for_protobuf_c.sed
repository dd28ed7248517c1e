# What protobuf-c cannot do is rewritten, for the C code alone, to what is the same on the wire.

# protoc-c 1.4 refuses proto3's `optional`; a oneof of one member takes its place:
# `optional float x = 1;` becomes the members x and has_x_case.
/^syntax = "proto3"/,$ s/\boptional ([a-z0-9]+) ([a-z0-9_]+) = ([0-9]+);/oneof has_\2 { \1 \2 = \3; }/

# Strings become C strings, which end at the first U+0000. Where that is text like any other,
# bytes with a length take their place.
/^package quire\.v1;/,$ s/\bstring (text|stop|tenant|cache_salt) = /bytes \1 = /
