// Halton's sequence, a parameter a prime: the same points as halton.py and halton.sh.
const PRIMES = [2, 3, 5, 7, 11, 13];

function radicalInverse(number, base) {
  let value = 0, weight = 1;
  for (; number > 0; number = Math.floor(number / base)) {
    weight /= base;
    value += weight * (number % base);
  }
  return value;
}

function at(parameter, unit) {
  if (parameter.type === "float") return parameter.min + unit * (parameter.max - parameter.min);
  if (parameter.type === "int") return parameter.min + Math.floor(unit * (parameter.max - parameter.min + 1));
  return parameter.values[Math.floor(unit * parameter.values.length)];
}

const asked = JSON.parse(require("fs").readFileSync(0, "utf-8"));
const suggestions = asked.indices.map((index) => ({
  assignment: Object.fromEntries(
    Object.entries(asked.parameters).map(([name, parameter], position) =>
      [name, at(parameter, radicalInverse(index + 1, PRIMES[position]))])),
}));
const count = (asked.state ? asked.state.asked : 0) + 1;
console.log(JSON.stringify({ suggestions, state: { asked: count } }));
