#!/bin/sh
# Halton's sequence, a parameter a prime: the same points as halton.py and halton.js. POSIX sh and awk, and nothing else.
awk '
{ text = text $0 "\n" }

function space() { while (substr(text, at, 1) ~ /[ \t\r\n]/) at++ }

# A JSON value from the position at on: leaves[path] is its text, order[path] the names or numbers below it.
function value(path,   first, name, count) {
  space()
  first = substr(text, at, 1)
  if (first == "{" || first == "[") {
    at++
    for (count = 0; ; count++) {
      space()
      if (substr(text, at, 1) ~ /[]}]/) { at++; break }
      if (substr(text, at, 1) == ",") at++
      space()
      name = count
      if (first == "{") { name = word(); name = substr(name, 2, length(name) - 2); space(); at++ }
      names[path, count] = name
      value(path SUBSEP name)
    }
    size[path] = count
  } else
    leaves[path] = word()
}

# The text of a leaf: a string with its quotes, a number, true, false or null.
function word(   begin) {
  begin = at
  if (substr(text, at, 1) == "\"") {
    for (at++; substr(text, at, 1) != "\""; at++) if (substr(text, at, 1) == "\\") at++
    at++
  } else
    while (substr(text, at, 1) ~ /[-+.a-zA-Z0-9]/) at++
  return substr(text, begin, at - begin)
}

function inverse(number, base,   result, weight) {
  result = 0
  for (weight = 1; number > 0; number = int(number / base)) { weight /= base; result += weight * (number % base) }
  return result
}

function point(path, unit,   type, low, high) {
  type = leaves[path, "type"]
  if (type == "\"categorical\"" || type == "\"ordinal\"") return leaves[path, "values", int(unit * size[path, "values"])]
  low = leaves[path, "min"] + 0
  high = leaves[path, "max"] + 0
  return type == "\"int\"" ? low + int(unit * (high - low + 1)) : sprintf("%.17g", low + unit * (high - low))
}

END {
  at = 1
  value("root")
  split("2 3 5 7 11 13", primes, " ")
  printf "{\"suggestions\": ["
  for (i = 0; i < size["root", "indices"]; i++) {
    printf "%s{\"assignment\": {", i ? ", " : ""
    for (p = 0; p < size["root", "parameters"]; p++) {
      name = names["root", "parameters", p]
      unit = inverse(leaves["root", "indices", i] + 1, primes[p + 1])
      printf "%s\"%s\": %s", p ? ", " : "", name, point("root" SUBSEP "parameters" SUBSEP name, unit)
    }
    printf "}}"
  }
  printf "], \"state\": {\"asked\": %d}}\n", leaves["root", "state", "asked"] + 1
}'
