// The data of the page, made easy to ask: graphs with their nodes, what changed between two, which events belong to a node.

const DATA = JSON.parse(document.getElementById("data").textContent);
const S = DATA.strings;

/** A value of the trace with its texts in place; lists of sources stay places of strings. */
function unpack(value, key) {
  if (typeof value === "string") return S[Number(value.slice(1))];
  if (Array.isArray(value)) return key === "sources" ? value.map((s) => Number(s.slice(1))) : value.map((v) => unpack(v));
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, unpack(v, k)]));
  return value;
}

/** `Add:/encoder/layer.0/Add_1` as its operator, folder and own name. */
const sourceParts = (() => {
  const known = new Map();
  return (id) => {
    let parts = known.get(id);
    if (!parts) {
      const text = S[id];
      const colon = text.indexOf(":");
      const name = text.slice(colon + 1);
      const split = name.includes("/") ? name.split("/").filter(Boolean) : [name];
      parts = { op: text.slice(0, Math.max(colon, 0)), name, dir: split.slice(0, -1), leaf: split[split.length - 1] || name };
      known.set(id, parts);
    }
    return parts;
  };
})();

/** The folder that all sources share. */
function commonDir(sources) {
  let dir = null;
  for (const s of sources) {
    const d = sourceParts(s).dir;
    if (dir === null) dir = d;
    let n = 0;
    while (n < dir.length && n < d.length && dir[n] === d[n]) n++;
    dir = dir.slice(0, n);
  }
  return dir || [];
}

function decodeGraph(raw) {
  const nodes = raw.nodes.map(([op, attrs, type, name, cost, ins, src, regions], i) => ({
    i, op: DATA.ops[op][0], family: DATA.ops[op][1], doc: DATA.ops[op][2],
    attrs: S[attrs], type: S[type], name: S[name], cost, ins, src, regions: regions.map((r) => S[r]),
    key: `${op}|${attrs}|${type}|${src}|${regions}`, dir: commonDir(src), users: [], outputs: [],
  }));
  const inputUsers = raw.inputs.map(() => []);
  const bySource = new Map();
  for (const node of nodes) {
    for (const operand of node.ins) {
      const ref = operandRef(operand);
      const users = ref.kind === "node" ? nodes[ref.i].users : ref.kind === "input" ? inputUsers[ref.i] : null;
      if (users && users[users.length - 1] !== node.i) users.push(node.i);
    }
    for (const s of node.src) {
      if (!bySource.has(s)) bySource.set(s, []);
      bySource.get(s).push(node.i);
    }
  }
  raw.outputs.forEach(([name, operand]) => {
    const ref = operandRef(operand);
    if (ref.kind === "node") nodes[ref.i].outputs.push(name);
  });
  return {
    nodes, inputUsers, bySource, inputs: raw.inputs, outputs: raw.outputs,
    cost: nodes.reduce((sum, n) => sum + n.cost, 0),
    top: nodes.reduce((max, n) => Math.max(max, n.cost), 1),
  };
}

/** What an operand refers to. */
function operandRef(operand) {
  if (operand === null) return { kind: "none" };
  if (Array.isArray(operand)) return operand[0] === -1 ? { kind: "const", text: S[operand[1]] } : { kind: "node", i: operand[0], k: operand[1] };
  return operand < 0 ? { kind: "input", i: -1 - operand } : { kind: "node", i: operand, k: 0 };
}

const stages = [];
for (const raw of DATA.stages) {
  const same = raw.same !== undefined;
  stages.push({ name: raw.name, doc: raw.doc, same, index: stages.length, graph: same ? stages[raw.same].graph : decodeGraph(raw.graph) });
}
const last = stages.length - 1;

const events = DATA.events.map((e, i) => ({ id: i, ...unpack(e) }));
const eventsOf = (kind) => events.filter((e) => e.event === kind);
const rewrites = eventsOf("rewrite");
const missed = eventsOf("missed");
const limits = eventsOf("limit");
const choices = eventsOf("choice");
/** Steps of the passes' proofs, in the order in which each can be checked. */
const proofSteps = eventsOf("proof").flatMap((p) => (p.steps || []).map((step, n) => ({ ...step, id: p.id + n / 1e6, pass: p.pass, n: n + 1 })));
/** Kinds of events that this page knows nothing of: shown as they are. */
const KNOWN_KINDS = new Set(["pass", "rewrite", "missed", "choice", "limit", "proof"]);
const otherEvents = events.filter((e) => !KNOWN_KINDS.has(e.event));
/** Names of passes by event, `lower` among them, at the place of their stage. */
const stageOf = (name) => {
  const at = stages.findIndex((s) => s.name === name);
  return at < 0 ? last : at;
};

/** Index of events by source. */
function index(list) {
  const by = new Map();
  for (const e of list) for (const s of e.sources || []) {
    if (!by.has(s)) by.set(s, new Set());
    by.get(s).add(e);
  }
  return by;
}
const rewritesBy = index(rewrites);
const missedBy = index(missed);
const choicesBy = index(choices);
const stepsBy = index(proofSteps);

/** Events that share a source with a node: first those that are wholly inside it. */
function touching(by, src) {
  const own = new Set(src), inside = [], beside = [];
  const seen = new Set();
  for (const s of src) for (const e of by.get(s) || []) {
    if (seen.has(e)) continue;
    seen.add(e);
    (e.sources.every((x) => own.has(x)) ? inside : beside).push(e);
  }
  const order = (a, b) => a.id - b.id;
  return { inside: inside.sort(order), beside: beside.sort(order) };
}

/** What a stage changed: for the nodes before it whether they are gone, for those after it whether they are new. */
const diff = (() => {
  const known = new Map();
  return (at) => {
    if (known.has(at)) return known.get(at);
    const before = stages[Math.max(at - 1, 0)].graph, after = stages[at].graph;
    const left = new Map();
    for (const n of before.nodes) left.set(n.key, (left.get(n.key) || 0) + 1);
    const fresh = after.nodes.map((n) => {
      const c = left.get(n.key) || 0;
      if (c) left.set(n.key, c - 1);
      return !c;
    });
    const gone = new Array(before.nodes.length).fill(false);
    for (let i = before.nodes.length - 1; i >= 0; i--) {
      const c = left.get(before.nodes[i].key) || 0;
      if (c) { gone[i] = true; left.set(before.nodes[i].key, c - 1); }
    }
    const out = { gone, fresh };
    known.set(at, out);
    return out;
  };
})();

/** Nodes of a graph that share a source with a node of another. */
function kin(graph, src) {
  const out = new Set();
  for (const s of src) for (const i of graph.bySource.get(s) || []) out.add(i);
  return [...out].sort((a, b) => a - b).map((i) => graph.nodes[i]);
}

const kernels = ((DATA.compiled.kernels) || []).map((k, i) => ({ i, ...unpack(k), cost: 0, nodes: [] }));
const kernelsBy = index(kernels);
/** Kernels that do a node's work: those that share most of its sources. */
function kernelsOf(node) {
  const shared = new Map();
  for (const s of node.src) for (const k of kernelsBy.get(s) || []) shared.set(k, (shared.get(k) || 0) + 1);
  const most = Math.max(0, ...shared.values());
  return [...shared].filter(([, n]) => n === most).map(([k]) => k).sort((a, b) => a.i - b.i);
}
for (const node of stages[last].graph.nodes) {
  const list = kernelsOf(node);
  for (const k of list) { k.cost += node.cost / list.length; k.nodes.push(node.i); }
}

// Measured times, where the page was made with some, in nanoseconds like all others.
const measured = (DATA.compiled && DATA.compiled.measured) || null;
if (measured) kernels.forEach((k, i) => { k.measured = measured[i] || 0; });
/** What a kernel weighs: measured where that is known. */
const weight = (k) => (measured ? k.measured : k.cost);

/** Nanoseconds for people. */
function time(ns) {
  if (ns < 1000) return `${Math.round(ns)} ns`;
  const [value, unit] = ns < 1e6 ? [ns / 1e3, "µs"] : ns < 1e9 ? [ns / 1e6, "ms"] : [ns / 1e9, "s"];
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}
const share = (part, whole) => {
  const p = whole ? (100 * part) / whole : 0;
  return p >= 10 ? `${Math.round(p)} %` : `${p.toFixed(1)} %`;
};
const many = (n, one, more = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : more}`;

/** Whether a node, or an event, has to do with what is searched for. */
function matcher(query) {
  const text = query.trim().toLowerCase();
  if (!text) return null;
  const op = text.startsWith("op:") ? text.slice(3).trim() : null;
  const inStrings = new Set();
  if (op === null) S.forEach((s, i) => { if (s.toLowerCase().includes(text)) inStrings.add(i); });
  return {
    node: (n) => (op !== null ? n.op === op : n.op.includes(text) || n.name.toLowerCase().includes(text) || n.src.some((s) => inStrings.has(s))),
    event: (e) => op === null && ((e.rule || e.name || "").toLowerCase().includes(text) || (e.reason || "").toLowerCase().includes(text)
      || (e.sources || []).some((s) => inStrings.has(s))),
  };
}

/** An element: `h("p", {class: "x"}, "text", child)`. */
function h(tag, props, ...children) {
  const el = document.createElement(tag);
  for (const [k, v] of Object.entries(props || {})) {
    if (v === undefined || v === null || v === false) continue;
    if (k.startsWith("on")) el.addEventListener(k.slice(2), v);
    else if (k === "style") el.style.cssText = v;
    else el.setAttribute(k, v === true ? "" : v);
  }
  el.append(...children.flat(9).filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}
