// Charts: SVG with a title and a description in words; the same figures stand in a table beside each.

const SPACE = "http://www.w3.org/2000/svg";
let drawn = 0;

function draw(tag, attributes, ...children) {
  const made = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

const at = (x) => x.toFixed(1);

// A canvas as wide as its place; `paint` gets the inner width and height and returns what is in it.
function chart(place, height, title, description, paint) {
  const width = Math.max(place.clientWidth, 200);
  const margin = { left: 58, right: 14, top: 12, bottom: 26 };
  const inner = { width: width - margin.left - margin.right, height: height - margin.top - margin.bottom };
  let name = place.dataset.name;
  if (!name) {
    drawn += 1;
    name = place.dataset.name = `chart-${drawn}`;
  }
  place.replaceChildren(draw("svg", {
    viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-labelledby": `${name}-title ${name}-text`,
  },
  draw("title", { id: `${name}-title` }, title),
  draw("desc", { id: `${name}-text` }, description),
  draw("g", { transform: `translate(${margin.left},${margin.top})` }, ...paint(inner))));
}

function level(inner, y, text) {
  return [
    draw("line", { class: "grid", x1: 0, x2: inner.width, y1: at(y), y2: at(y) }),
    draw("text", { x: -6, y: at(y + 4), "text-anchor": "end" }, text),
  ];
}

function under(inner, x, text, anchor = "middle") {
  return draw("text", { x: at(x), y: inner.height + 18, "text-anchor": anchor }, text);
}

// Steps that people count in, about `n` between two values.
function steps(low, high, n) {
  const raw = (high - low) / n;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const all = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-12 && all.length < 20; i += 1) all.push(i * step);
  return all;
}

function agreementChart(place, points, gate) {
  const seen = points.filter((point) => known(point.rate) && known(point.unix_nanos));
  if (seen.length < 2) {
    place.replaceChildren(make("p", { class: "muted" }, "The chart begins with the second point in time."));
    return;
  }
  const last = seen[seen.length - 1];
  // The interval of the first points is as wide as the world: what is looked at is where it has come to.
  const settled = seen.slice(Math.floor(seen.length / 4));
  const wanted = [...settled.map((point) => point.lower), ...seen.map((point) => point.rate), gate].filter(known);
  const least = Math.min(...wanted);
  const low = Math.max(0, least - Math.max(0.05 * (1 - least), 0.0005));
  const described = `From ${time(seen[0].unix_nanos)} to ${time(last.unix_nanos)}: agreement is now ${percent(last.rate)}, `
    + `between ${percent(last.lower)} and ${percent(last.upper)}, after ${count(last.compared)} rows; the gate is ${percent(gate)}.`;
  chart(place, 240, "Agreement over time with its confidence interval", described, (inner) => {
    const [begin, end] = [seen[0].unix_nanos, last.unix_nanos];
    const x = (point) => ((point.unix_nanos - begin) / Math.max(end - begin, 1)) * inner.width;
    const y = (share) => (1 - (Math.min(Math.max(share, low), 1) - low) / (1 - low)) * inner.height;
    const digits = 1 - low < 0.02 ? 2 : 1;
    const upper = seen.map((point) => `${at(x(point))},${at(y(point.upper))}`);
    const lower = seen.map((point) => `${at(x(point))},${at(y(point.lower))}`).reverse();
    const line = seen.map((point) => `${at(x(point))},${at(y(point.rate))}`);
    const gateLine = known(gate) ? [
      draw("line", { class: "gate", x1: 0, x2: inner.width, y1: at(y(gate)), y2: at(y(gate)) }),
      draw("text", { class: "gate-name", x: inner.width - 4, y: at(y(gate) + (y(gate) > 20 ? -6 : 16)), "text-anchor": "end" }, `gate ${percent(gate)}`),
    ] : [];
    return [
      ...steps(low, 1, 4).flatMap((share) => level(inner, y(share), `${(share * 100).toFixed(digits)} %`)),
      draw("polygon", { class: "band", points: [...upper, ...lower].join(" ") }),
      ...gateLine,
      draw("polyline", { class: "line", points: line.join(" ") }),
      under(inner, 0, time(begin), "start"),
      under(inner, inner.width, time(end), "end"),
    ];
  });
}

// Sizes that hardly any difference has would take half of the width: those next to zero become one bin.
function aroundZero(bins, total) {
  const size = ([lower, upper]) => Math.max(Math.abs(lower ?? Infinity), Math.abs(upper ?? Infinity));
  const inner = [...bins].sort((a, b) => size(a) - size(b));
  let [sum, limit] = [0, 0];
  for (const bin of inner) {
    sum += bin[2];
    if (sum > 0.005 * total) break;
    limit = size(bin);
  }
  const near = bins.filter((bin) => size(bin) <= limit);
  if (near.length < 2) return bins;
  const merged = [-limit, limit, near.reduce((all, bin) => all + bin[2], 0)];
  return [...bins.filter((bin) => size(bin) > limit && (bin[0] ?? -Infinity) < 0), merged,
    ...bins.filter((bin) => size(bin) > limit && !((bin[0] ?? -Infinity) < 0))];
}

function deltaChart(place, all) {
  const total = all.reduce((sum, bin) => sum + bin[2], 0);
  const bins = aroundZero(all, total);
  if (total === 0) {
    place.replaceChildren();
    return;
  }
  const top = Math.max(...bins.map((bin) => bin[2]));
  const middle = bins.findIndex(([lower, upper]) => lower < 0 && upper > 0);
  const name = ([lower, upper]) => (lower < 0 && upper > 0 ? `less than ${score(upper)}` : `${lower === null ? "less than" : score(lower)} … ${upper === null ? "more" : score(upper)}`);
  const most = bins.find((bin) => bin[2] === top);
  const nearZero = middle < 0 ? 0 : bins[middle][2];
  const below = bins.reduce((sum, [lower, upper, n]) => sum + (upper !== null && upper <= 0 ? n : 0), 0);
  const described = `${count(total)} differences: ${percent(below / total)} below zero, ${percent(nearZero / total)} about zero, `
    + `${percent((total - below - nearZero) / total)} above; most of them in ${name(most)}.`;
  chart(place, 180, "Differences of scores, by size and sign", described, (inner) => {
    const wide = inner.width / bins.length;
    const every = Math.ceil(bins.length / Math.max(2, Math.floor(inner.width / 64)));
    const bars = bins.map((bin, i) => {
      const high = (bin[2] / top) * inner.height;
      return draw("rect", { class: "bar", x: at(i * wide + 0.5), y: at(inner.height - high), width: at(Math.max(wide - 1, 0.5)), height: at(high) },
        draw("title", {}, `${name(bin)}: ${count(bin[2])}`));
    });
    const edges = bins.map(([lower], i) => (i % every === 0 && lower !== null ? under(inner, i * wide, score(lower)) : null));
    return [
      ...[0.5, 1].flatMap((share) => level(inner, inner.height * (1 - share), percent((top * share) / total))),
      draw("line", { class: "axis", x1: 0, x2: inner.width, y1: inner.height, y2: inner.height }),
      ...bars, ...edges.filter((edge) => edge !== null),
    ];
  });
}

// Shares for each doubling of time, so that bins of any width compare.
function latencyChart(place, sides) {
  const present = sides.filter((side) => side.bins.length > 0);
  if (present.length === 0) {
    place.replaceChildren();
    return;
  }
  const shapes = present.map((side) => {
    const total = side.bins.reduce((sum, bin) => sum + bin[2], 0);
    return { ...side, total, steps: side.bins.map(([lower, upper, n]) => ({ lower: Math.max(lower, 1e-9), upper, density: n / total / Math.log2(upper / Math.max(lower, 1e-9)) })) };
  });
  // A tail of single exchanges would take most of the width: the axis ends beyond the 999th of a thousand.
  const tail = (shape, share) => {
    let sum = 0;
    return shape.bins.find((bin) => (sum += bin[2]) >= share * shape.total)[1];
  };
  const low = Math.min(...shapes.map((shape) => shape.steps[0].lower));
  const high = Math.max(...shapes.map((shape) => Math.max(tail(shape, 0.999), (shape.marks.p99 || 0) * 1.1)), low * 2);
  const top = Math.max(...shapes.flatMap((shape) => shape.steps.map((step) => step.density)));
  const described = shapes.map((shape) => `${shape.name}: p50 ${seconds(shape.marks.p50)}, p95 ${seconds(shape.marks.p95)}, p99 ${seconds(shape.marks.p99)}`).join("; ");
  chart(place, 200, "Latency of primary and candidate, logarithmic", described, (inner) => {
    const x = (s) => (Math.log(Math.min(Math.max(s, low), high) / low) / Math.log(high / low)) * inner.width;
    const y = (density) => inner.height - (density / top) * (inner.height - 34);
    const decades = [];
    for (let power = Math.ceil(Math.log10(low)); 10 ** power <= high; power += 1) decades.push(10 ** power);
    const ticks = decades.length >= 2 ? decades : [low, Math.sqrt(low * high), high];
    const outline = (shape) => {
      const path = [`M${at(x(shape.steps[0].lower))},${inner.height}`];
      let end = shape.steps[0].lower;
      for (const step of shape.steps) {
        if (step.lower > high) break;
        if (step.lower > end * 1.0001) path.push(`L${at(x(end))},${inner.height}L${at(x(step.lower))},${inner.height}`);
        path.push(`L${at(x(step.lower))},${at(y(step.density))}L${at(x(step.upper))},${at(y(step.density))}`);
        end = step.upper;
      }
      return draw("path", { class: shape.side, d: `${path.join("")}L${at(x(end))},${inner.height}Z` });
    };
    // A name stands where there is room for it; the table has all of them.
    const marks = shapes.flatMap((shape, s) => {
      const named = [];
      return ["p50", "p99", "p95"].filter((name) => known(shape.marks[name]) && shape.marks[name] > 0).flatMap((name) => {
        const [left, y2] = [x(shape.marks[name]), 2 + s * 16];
        const line = draw("line", { class: `mark-${shape.side}`, x1: at(left), x2: at(left), y1: inner.height, y2 });
        if (named.some((other) => Math.abs(other - left) < 28) || left > inner.width - 20) return [line];
        named.push(left);
        return [line, draw("text", { x: at(left + 3), y: y2 + 9 }, name)];
      });
    });
    return [
      draw("line", { class: "axis", x1: 0, x2: inner.width, y1: inner.height, y2: inner.height }),
      ...ticks.map((tick) => under(inner, x(tick), seconds(tick), x(tick) < 20 ? "start" : x(tick) > inner.width - 20 ? "end" : "middle")),
      ...shapes.map(outline), ...marks,
    ];
  });
}

function meter(name, got, needed, kind) {
  const share = known(got) && known(needed) && needed > 0 ? Math.min(Math.max(got / needed, 0), 1) : 0;
  const text = `${name}: evidence ${evidence(got, needed)} of ${known(needed) ? needed.toFixed(1) : UNKNOWN} needed`;
  return make("div", {}, make("span", {}, text), make("div", { class: "meter", "aria-hidden": "true" },
    draw("svg", { viewBox: "0 0 100 1", preserveAspectRatio: "none" }, draw("rect", { class: `fill-${kind}`, width: at(share * 100), height: 1 }))));
}
