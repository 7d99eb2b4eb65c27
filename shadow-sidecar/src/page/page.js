// The page: what each part of a report looks like, and where reports come from. A report may be older or newer than this
// page: what is absent is left out, what has no place of its own is listed under "More figures".

// Points in the browser; the sidecar keeps as many.
const MOST_POINTS = 720;
const TABLE_ROWS = 12;
const MATRIX_CLASSES = 20;
const MOST_ENTRIES = 12;
const MOST_DISAGREEMENTS = 25;
const OWN = ["epoch", "verdict", "reasons", "pairs_needed", "per_second", "seconds_needed", "exchanges", "rows", "agreement", "flips",
  "score_delta", "primary_latency", "candidate_latency", "intake", "slices", "generated_unix_nanos"];
const SENTENCES = {
  promote: "Promote: the candidate may take over",
  reject: "Reject: the candidate must not take over",
  undecided: "Undecided: the rehearsal goes on",
};

const state = { reports: [], histories: [], distributions: [], chosen: 0, paused: false, disagreements: true };

const model = (version) => {
  const { name, version: number } = fields(version);
  return name ? `${name} ${number ?? ""}`.trim() : UNKNOWN;
};

function showVerdict(report, points) {
  const verdict = String(report.verdict ?? "undecided");
  const card = element("verdict-card");
  if (card.dataset.verdict !== verdict) card.dataset.verdict = verdict;
  say(element("verdict"), SENTENCES[verdict] ?? verdict);
  const agreement = fields(report.agreement);
  // Of all that could have been compared: what is missing, and failures, count as disagreements.
  say(element("headline"), !known(agreement.rate)
    ? "Nothing is compared yet, so nothing is said about accuracy."
    : known(agreement.accuracy_change_bound)
      ? `Accuracy changes by at most ${percent(agreement.accuracy_change_bound)}, without a single label; what was not compared counts as changed.`
      : `They agree on at least ${percent(agreement.worst_case_lower)}; what was not compared counts as a disagreement.`);
  const reasons = list(report.reasons).map(String);
  const target = element("reasons");
  if (target.children.length !== reasons.length) target.replaceChildren(...reasons.map(() => make("li", {})));
  reasons.forEach((reason, i) => say(target.children[i], reason));

  const pairs = report.pairs_needed;
  // A pair is an exchange, however many rows it has.
  const rows = rowsASecond(points);
  const rate = known(report.per_second) ? report.per_second : rows * (agreement.observations / agreement.compared);
  const eta = report.seconds_needed;
  const undecided = verdict === "undecided";
  facts(element("outlook"), [
    undecided ? ["Pairs still needed", pairs === 0 ? "none; above is what else is missing" : known(pairs) ? count(pairs) : "the gate can't be reached so"] : null,
    undecided && known(pairs) && pairs > 0 ? ["Time at this rate", known(eta) ? `about ${duration(eta)}` : rate > 0 ? "can't be told: more than pairs is missing" : "no traffic"] : null,
    ["Rate", known(rate) ? `${rate < 10 ? rate.toFixed(1) : count(rate)} pairs/s` : UNKNOWN],
    // Of this candidate; of several each has that chance of its own.
    known(agreement.alpha) ? ["Chance of a wrong promotion", `at most ${percent(agreement.alpha)}`] : null,
    known(agreement.alpha) ? ["Of a wrong rejection", `at most ${percent(agreement.alpha)} for agreement, as much for errors`] : null,
  ]);
  element("evidence").replaceChildren(...(known(agreement.log_e_needed) ? [
    meter("To promote", agreement.log_e, agreement.log_e_needed, "good"),
    meter("To reject", agreement.log_e_abort, agreement.log_e_needed, "bad"),
  ] : []));

  const intake = fields(report.intake);
  const away = intake.connected === false;
  say(element("trouble"), away ? `Not connected to the primary's tap${intake.last_error ? `: ${intake.last_error}` : "."}` : "");
  show(element("trouble"), away);
}

// Rows over the last minute, as the points have them.
function rowsASecond(points) {
  const last = points[points.length - 1];
  const first = points.find((point) => last.unix_nanos - point.unix_nanos <= 60e9);
  const took = last && first ? (last.unix_nanos - first.unix_nanos) / 1e9 : 0;
  return took >= 1 ? (last.compared - first.compared) / took : undefined;
}

function showWho(report) {
  const epoch = fields(report.epoch);
  facts(element("who"), [
    ["Candidate", model(epoch.candidate)],
    ["Primary", model(epoch.primary)],
    ["Epoch", anything(epoch.number)],
    ["Since", day(epoch.started_unix_nanos)],
    ["Task", anything(epoch.task)],
    ["They agree when", anything(epoch.comparator)],
    epoch.manual_restarts > 0 ? ["Begun by hand", `${count(epoch.manual_restarts)} times`] : null,
  ]);
}

function showAgreement(report, points) {
  const agreement = fields(report.agreement);
  facts(element("agreement"), [
    ["Agreement", percent(agreement.rate)],
    [`Interval, valid at any time`, known(agreement.rate) ? `${percent(agreement.lower)} to ${percent(agreement.upper)}` : UNKNOWN],
    ["Gate", percent(agreement.gate)],
    ["Rows that agree", `${count(agreement.agreed)} of ${count(agreement.compared)}`],
    known(agreement.worst_case_lower) ? ["At least, if all that is missing differs", percent(agreement.worst_case_lower)] : null,
    agreement.nonfinite > 0 ? ["Rows with a score that is no number", count(agreement.nonfinite)] : null,
  ]);
  agreementChart(element("agreement-chart"), points, agreement.gate);
  const every = Math.ceil(points.length / TABLE_ROWS);
  const shown = points.filter((_, i) => (points.length - 1 - i) % every === 0).reverse();
  body(element("agreement-table"), shown.map((point) => [
    time(point.unix_nanos), count(point.compared), percent(point.rate), percent(point.lower), percent(point.upper),
    evidence(point.log_e, Infinity),
  ]));
}

function showFlips(report) {
  const flips = list(report.flips).filter((flip) => known(fields(flip).count));
  show(element("flips-card"), flips.length > 0);
  const weight = new Map();
  const cells = new Map();
  let total = 0;
  let most = 0;
  let flipped = 0;
  for (const { primary, candidate, count: n } of flips) {
    const differs = primary !== candidate;
    for (const name of [primary, candidate]) weight.set(name, (weight.get(name) ?? 0) + (differs ? n : 0));
    cells.set(JSON.stringify([primary, candidate]), n);
    total += n;
    if (differs) {
      most = Math.max(most, n);
      flipped += n;
    }
  }
  const all = [...weight.keys()].sort();
  const kept = new Set([...all].sort((a, b) => weight.get(b) - weight.get(a)).slice(0, MATRIX_CLASSES));
  const names = all.filter((name) => kept.has(name));
  say(element("flips-note"), `${count(flipped)} of ${count(total)} rows change their class${
    names.length < all.length ? `; the ${names.length} classes that flip most, of ${all.length}` : ""}. Rows: the primary's class; columns: the candidate's.`);
  const table = element("flips");
  head(table, ["Primary \\ candidate", ...names.map(String)]);
  body(table, names.map((row) => [String(row), ...names.map((column) => {
    const n = cells.get(JSON.stringify([row, column])) ?? 0;
    return `${count(n)} (${percent(total > 0 ? n / total : undefined)})`;
  })]));
  names.forEach((row, r) => names.forEach((column, c) => {
    const cell = table.tBodies[0].rows[r].cells[c + 1];
    const n = cells.get(JSON.stringify([row, column])) ?? 0;
    cell.classList.toggle("same", row === column);
    cell.style.setProperty("--share", row === column || most === 0 ? "0" : (n / most).toFixed(3));
  }));
}

function showDelta(report, distributions) {
  const delta = fields(report.score_delta);
  const bins = list(distributions.score_delta);
  show(element("delta-card"), delta.count > 0);
  if (!(delta.count > 0)) return;
  facts(element("delta"), [
    ["Mean of the size", score(delta.mean_absolute)],
    ["Mean", score(delta.mean)],
    ["Root mean square", score(delta.root_mean_square)],
    ["Largest", score(delta.max_absolute)],
  ]);
  deltaChart(element("delta-chart"), bins);
}

function showLatency(report, distributions) {
  const sides = [["primary", report.primary_latency, distributions.primary_latency],
    ["candidate", report.candidate_latency, distributions.candidate_latency]].filter(([, latency]) => fields(latency).count > 0);
  show(element("latency-card"), sides.length > 0);
  if (sides.length === 0) return;
  body(element("latency"), sides.map(([name, latency]) => [
    name, seconds(latency.p50), seconds(latency.p95), seconds(latency.p99), seconds(latency.max), anything(latency.observed_via),
  ]), ["", "", "", "", "", "words"]);
  latencyChart(element("latency-chart"), sides.map(([name, latency, bins]) => ({ side: name, name, marks: latency, bins: list(bins) })));
}

function showConservation(report) {
  const [exchanges, rows] = [fields(report.exchanges), fields(report.rows)];
  show(element("conservation-card"), known(exchanges.offered) || known(rows.offered));
  say(element("coverage"), `Coverage: ${percent(exchanges.coverage)} of the exchanges and ${percent(rows.coverage)} of the rows that could have been compared.`);
  const lines = [["Offered", exchanges.offered, rows.offered], ["Compared", exchanges.compared, rows.compared]];
  for (const [what, title] of [["dropped", "Dropped"], ["failed", "Failed"]]) {
    const names = new Set([...Object.keys(fields(exchanges[what])), ...Object.keys(fields(rows[what]))]);
    if (names.size === 0) lines.push([title, 0, 0]);
    for (const name of [...names].sort()) lines.push([`${title}: ${words(name)}`, fields(exchanges[what])[name] ?? 0, fields(rows[what])[name] ?? 0]);
  }
  lines.push(["In flight", exchanges.in_flight, rows.in_flight]);
  const table = element("conservation");
  body(table, lines.map(([name, ...counts]) => [name, ...counts.map(count)]));
  table.tBodies[0].rows[0].classList.add("total");
}

// A list of objects as a table: a column for each name, in the order in which they come.
function listed(card, table, items) {
  const rows = list(items).filter((item) => item !== null && typeof item === "object");
  show(card, rows.length > 0);
  if (rows.length === 0) return;
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  head(table, names.map(words));
  body(table, rows.map((row) => names.map((name) => cell(name, row[name]))), names.map((name) => (rows.every((row) => typeof row[name] === "number" || row[name] == null) ? "" : "words")));
}

const SHARES = new Set(["rate", "lower", "upper", "share", "gate", "one_sided_lower", "one_sided_upper", "coverage", "agreement"]);

function cell(name, value) {
  if (name.endsWith("unix_nanos")) return day(value);
  if (SHARES.has(name)) return known(value) ? percent(value) : anything(value);
  if (list(value).length > MOST_ENTRIES) return `${count(value.length)} entries`;
  if (value !== null && typeof value === "object") return Object.entries(value).map(([key, each]) => `${words(key)} ${cell(key, each)}`).join(", ") || UNKNOWN;
  return anything(value);
}

// What is the same for all of them, or said better elsewhere, has no column.
function showDisagreements(told) {
  const seen = Object.values(fields(told.seen)).reduce((sum, each) => sum + each, 0);
  const rows = list(told.disagreements).slice(0, MOST_DISAGREEMENTS).map(fields).map(({ number, row, kind, slices, primary_scores, candidate_scores,
    request_id, traceparent, primary_latency_nanos, candidate_latency_nanos, candidate_status, ...rest }) => ({
    ...rest,
    kind,
    slices: list(slices).join(", "),
    trace: typeof traceparent === "string" ? traceparent.split("-")[1] : null,
  }));
  const said = (value) => value !== null && value !== undefined && value !== "" && !(typeof value === "object" && Object.keys(value).length === 0);
  const present = new Set(rows.flatMap((row) => Object.keys(row).filter((name) => said(row[name]))));
  const shown = rows.map((row) => Object.fromEntries(Object.entries(row).filter(([name]) => present.has(name))));
  listed(element("disagreements-card"), element("disagreements"), shown);
  say(element("disagreements-note"), seen > 0
    ? `${count(rows.length)} of ${count(seen)} in this epoch, the newest first.` : "");
}

function showMore(report) {
  const rest = Object.entries(report).filter(([name, value]) => !OWN.includes(name) && value !== null && value !== undefined);
  show(element("more-card"), rest.length > 0);
  const pairs = rest.flatMap(([name, value]) => Object.entries(Array.isArray(value) || typeof value !== "object" ? { "": value } : value)
    .map(([key, each]) => [words(key === "" ? name : `${name}: ${key}`), cell(key, each)]));
  let target = element("more").firstChild;
  if (!target) {
    target = make("dl", { class: "facts" });
    element("more").append(target);
  }
  facts(target, pairs);
}

function pointsOf(index) {
  const { points } = fields(state.histories[index]);
  const now = pointNow(state.reports[index]);
  const kept = list(points);
  const last = kept[kept.length - 1];
  return now !== null && (!last || now.unix_nanos > last.unix_nanos) ? [...kept, now] : kept;
}

function pointNow(report) {
  const agreement = fields(report.agreement);
  if (!known(report.generated_unix_nanos) || !known(agreement.compared)) return null;
  const { compared, agreed, rate, lower, upper, log_e } = agreement;
  return { unix_nanos: report.generated_unix_nanos, compared, agreed, rate, lower, upper, log_e };
}

// Keeps the history going between two looks at the sidecar's own.
function remember(index) {
  const history = state.histories[index];
  const report = state.reports[index];
  const now = pointNow(report);
  if (!history || now === null) return;
  if (history.epoch !== fields(report.epoch).number) {
    state.histories[index] = { epoch: fields(report.epoch).number, interval_seconds: 1, points: [now] };
    return;
  }
  const last = history.points[history.points.length - 1];
  if (last && now.unix_nanos - last.unix_nanos < (history.interval_seconds - 0.1) * 1e9) return;
  if (history.points.length >= MOST_POINTS) {
    history.points = history.points.filter((_, i) => i % 2 === 0);
    history.interval_seconds *= 2;
  }
  history.points.push(now);
}

function render() {
  const report = fields(state.reports[state.chosen]);
  if (state.paused || state.reports.length === 0) return;
  show(element("still"), false);
  show(element("live"), true);
  show(element("controls"), true);
  const points = pointsOf(state.chosen);
  const distributions = fields(state.distributions[state.chosen]);
  showTabs();
  showVerdict(report, points);
  showWho(report);
  showAgreement(report, points);
  showFlips(report);
  showDelta(report, distributions);
  showLatency(report, distributions);
  showConservation(report);
  listed(element("slices-card"), element("slices"), report.slices);
  showMore(report);
  document.title = `${report.verdict ?? "?"}: ${model(fields(report.epoch).candidate)} · Understudy`;
}

function showTabs() {
  const place = element("tabs");
  const several = state.reports.length > 1;
  show(place, several);
  const main = element("live");
  if (!several) {
    main.removeAttribute("role");
    main.removeAttribute("aria-labelledby");
    return;
  }
  if (place.children.length !== state.reports.length) {
    place.replaceChildren(...state.reports.map((_, i) => {
      const tab = make("button", { type: "button", role: "tab", id: `tab-${i}`, "aria-controls": "live" });
      tab.addEventListener("click", () => choose(i));
      return tab;
    }));
  }
  state.reports.forEach((report, i) => {
    const tab = place.children[i];
    say(tab, `${model(fields(fields(report).epoch).candidate)}: ${fields(report).verdict ?? "?"}`);
    tab.setAttribute("aria-selected", String(i === state.chosen));
    tab.tabIndex = i === state.chosen ? 0 : -1;
  });
  main.setAttribute("role", "tabpanel");
  main.setAttribute("aria-labelledby", `tab-${state.chosen}`);
}

function choose(index) {
  state.chosen = index;
  const { paused } = state;
  state.paused = false;
  render();
  state.paused = paused;
  element("tabs").children[index]?.focus();
  lookAtDisagreements();
}

element("tabs").addEventListener("keydown", (event) => {
  const n = state.reports.length;
  const next = { ArrowRight: state.chosen + 1, ArrowLeft: state.chosen - 1 + n, Home: 0, End: n - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  choose(next % n);
});

element("pause").addEventListener("click", () => {
  state.paused = !state.paused;
  element("pause").setAttribute("aria-pressed", String(state.paused));
  say(element("connection"), state.paused ? "paused" : "live");
  render();
});

let width = 0;
new ResizeObserver(() => {
  const now = element("main").clientWidth;
  if (now !== width) {
    width = now;
    render();
  }
}).observe(element("main"));

function connection(name, text) {
  element("connection").dataset.state = name;
  say(element("connection"), state.paused ? "paused" : text);
}

async function read(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw Object.assign(new Error(`${path}: ${answer.status}`), { status: answer.status });
  return answer.json();
}

function take(told) {
  const reports = list(fields(told).reports);
  state.reports = reports.length > 0 ? reports : [told];
  state.chosen = Math.min(state.chosen, state.reports.length - 1);
  state.reports.forEach((_, i) => remember(i));
  render();
}

async function lookBack() {
  try {
    state.histories = list((await read("/history.json")).candidates).map((history) => ({ interval_seconds: 1, ...history, points: list(history.points) }));
    render();
  } catch {
    // The stream has the report all the same; the chart begins now.
  }
}

// Where none are kept there is no section.
async function lookAtDisagreements() {
  if (!state.disagreements || state.reports.length === 0) return;
  const { candidate } = fields(fields(state.reports[state.chosen]).epoch);
  const query = state.reports.length > 1 ? `?candidate=${encodeURIComponent(fields(candidate).name ?? "")}` : "";
  try {
    const told = await read(`/disagreements.json${query}`);
    if (!state.paused) showDisagreements(fields(told));
  } catch (error) {
    if (error.status === 404) state.disagreements = false;
  }
}

// Where no stream can be had, a look now and then.
let polling = null;
function poll(on) {
  if (on && polling === null) {
    const look = async () => {
      try {
        const [report, distributions] = await Promise.all([read("/report.json"), read("/distributions.json")]);
        state.distributions = list(distributions.candidates);
        take(report);
        connection("live", "every 5 s");
      } catch {
        connection("lost", "not reachable, trying again");
      }
    };
    look();
    polling = setInterval(look, 5000);
  } else if (!on && polling !== null) {
    clearInterval(polling);
    polling = null;
  }
}

function follow() {
  const source = new EventSource("/report/events");
  source.addEventListener("open", () => {
    connection("live", "live");
    poll(false);
    lookBack();
  });
  source.addEventListener("report", (event) => take(JSON.parse(event.data)));
  source.addEventListener("distributions", (event) => {
    state.distributions = list(fields(JSON.parse(event.data)).candidates);
    render();
  });
  source.addEventListener("error", () => {
    connection("lost", "connection lost, trying again");
    if (source.readyState === EventSource.CLOSED) {
      // Refused: no place is free, or it is another version.
      poll(true);
      setTimeout(follow, 30000);
    }
  });
}

follow();
setInterval(lookAtDisagreements, 15000);
setTimeout(lookAtDisagreements, 1000);
