"use strict";
// Figures as people read them, and elements whose foreign text is only ever text.

const UNKNOWN = "–";
// A figure and its unit stay on one line.
const GAP = "\u00a0";

const known = (value) => typeof value === "number" && Number.isFinite(value);
const list = (value) => (Array.isArray(value) ? value : []);
const fields = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? value : {});

function count(n) {
  return known(n) ? Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, ",") : UNKNOWN;
}

// What is not complete never reads as 100 %, what is not nothing never as 0 %.
function percent(share) {
  if (!known(share)) return UNKNOWN;
  const text = (share * 100).toFixed(2);
  if (text === "100.00" && share < 1) return `>99.99${GAP}%`;
  if (text === "0.00" && share > 0) return `<0.01${GAP}%`;
  return `${text}${GAP}%`;
}

function three(value) {
  return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

function seconds(s) {
  if (!known(s)) return UNKNOWN;
  if (s < 0.9995e-3) return `${three(s * 1e6)}${GAP}µs`;
  return s < 0.9995 ? `${three(s * 1e3)}${GAP}ms` : `${three(s)}${GAP}s`;
}

function duration(s) {
  if (!known(s)) return UNKNOWN;
  if (s < 1) return "under a second";
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${(s / 3600).toFixed(1)} h` : `${(s / 86400).toFixed(1)} days`;
}

function score(value) {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  if (size === 0) return "0";
  return size >= 1e-3 && size < 1e6 ? Number(value.toFixed(4)).toString() : value.toExponential(1);
}

// What is not enough never reads as enough.
function evidence(got, needed) {
  return known(got) ? ((got < needed ? Math.floor(got * 10) / 10 : got) + 0).toFixed(1) : UNKNOWN;
}

function time(nanos) {
  return known(nanos) && nanos > 0 ? new Date(nanos / 1e6).toLocaleTimeString([], { hour12: false }) : UNKNOWN;
}

function day(nanos) {
  return known(nanos) && nanos > 0 ? new Date(nanos / 1e6).toLocaleString([], { hour12: false }) : UNKNOWN;
}

// Any value of a report that this page has no place for.
function anything(value) {
  if (value === null || value === undefined || value === "") return UNKNOWN;
  if (typeof value === "number") return Number.isInteger(value) ? count(value) : score(value);
  return String(value);
}

const words = (name) => String(name).replace(/_/g, " ");

const element = (id) => document.getElementById(id);

// Children are elements, or become text.
function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

// Nothing is touched that stays the same, so that a reader's selection stays, too.
function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function show(target, visible) {
  if (target.hidden === visible) target.hidden = !visible;
}

function facts(target, pairs) {
  const present = pairs.filter((pair) => pair !== null);
  const same = target.children.length === present.length
    && present.every(([name], i) => target.children[i].firstChild.textContent === name);
  if (!same) target.replaceChildren(...present.map(([name]) => make("div", {}, make("dt", {}, name), make("dd", {}))));
  present.forEach(([, value], i) => say(target.children[i].lastChild, value));
}

// Rows are lists of cells: the first one names the row.
function body(table, rows, columns = []) {
  const target = table.tBodies[0];
  const key = (cells) => cells.length;
  const fits = target.rows.length === rows.length && rows.every((cells, i) => target.rows[i].cells.length === key(cells));
  if (!fits) {
    target.replaceChildren(...rows.map((cells) => make("tr", {}, ...cells.map((_, i) => {
      const kind = columns[i] ? { class: columns[i] } : {};
      return i === 0 ? make("th", { scope: "row", ...kind }) : make("td", kind);
    }))));
  }
  rows.forEach((cells, r) => cells.forEach((cell, c) => say(target.rows[r].cells[c], cell)));
}

function head(table, names) {
  const now = [...table.tHead.querySelectorAll("th")].map((cell) => cell.textContent);
  if (now.length !== names.length || now.some((name, i) => name !== names[i])) {
    table.tHead.replaceChildren(make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name))));
  }
}
