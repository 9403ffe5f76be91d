// The panel on the right: the chosen node, block or kernel; without one, what the chosen pass changed.

function section(title, ...content) {
  const inside = content.flat().filter((c) => c !== null && c !== undefined && c !== false);
  return inside.length ? h("section", {}, h("h3", {}, title), inside) : null;
}

/** Some of a long list, the rest on demand. */
function few(list, draw, most = 8) {
  if (list.length <= most) return list.map(draw);
  const rest = h("details", { class: "more" }, h("summary", {}, `${list.length - most} more`));
  rest.addEventListener("toggle", () => { if (rest.open && rest.childElementCount === 1) rest.append(...list.slice(most, most + 300).map(draw)); });
  return [...list.slice(0, most).map(draw), rest];
}

const nodeButton = (at, side) => (n) => h("button", { class: `node-line f-${n.family}`, onclick: () => set({ tab: "graph", pass: at, side, node: n.i, kernel: null, block: null }),
  onpointerenter: () => hoverSources(new Set(n.src)), onpointerleave: () => hoverSources(null) },
  h("span", { class: "dot" }), h("b", {}, n.op), h("span", { class: "quiet" }, n.type));

/** The folders of a node, each of which can be collapsed. */
function crumbs(dir) {
  if (!dir.length) return null;
  return h("nav", { class: "crumbs", "aria-label": "Blocks" }, dir.map((name, d) => [d ? h("span", {}, "/") : null,
    h("button", { class: "link", title: "Collapse this block", onclick: () => { blocks.open.set(dir.slice(0, d + 1).join("/"), false); set({ node: null, block: dir.slice(0, d + 1).join("/") }, true); } }, name)]));
}

function operandLine(graph, operand, at, side) {
  const ref = operandRef(operand);
  if (ref.kind === "node") return nodeButton(at, side)(graph.nodes[ref.i]);
  if (ref.kind === "input") return h("div", { class: "node-line" }, h("span", { class: "dot input" }), h("b", {}, graph.inputs[ref.i][0]), h("span", { class: "quiet" }, graph.inputs[ref.i][1]));
  if (ref.kind === "const") return h("div", { class: "node-line" }, h("span", { class: "dot const" }), h("span", { class: "quiet mono" }, clip(ref.text, 60)));
  return h("div", { class: "node-line quiet" }, "left out");
}

function rewriteLine(e) {
  return h("div", { class: "event" }, h("button", { class: "link strong", onclick: () => goTo(e) }, e.rule), h("span", { class: "chip pass" }, e.pass), e.place ? h("div", { class: "place" }, e.place) : null,
    h("details", { class: "more" }, h("summary", {}, "the rule"), ruleText(e)), extras(e, REWRITE_FIELDS));
}

/** A step of a proof, with its terms on demand. */
function stepLine(e) {
  return h("details", { class: "step-line" }, h("summary", {}, h("b", {}, e.rule), h("span", { class: "chip pass" }, e.pass)), e.place ? h("div", { class: "place" }, e.place) : null, stepText(e), extras(e, STEP_FIELDS));
}

function missedLine(e) {
  return h("div", { class: "event" }, h("button", { class: "link strong", onclick: () => goTo(e) }, e.rule), h("span", { class: "chip pass" }, e.pass), h("div", { class: `why-${e.why}` }, e.reason), extras(e, MISSED_FIELDS));
}

function nodeDetails(at, side, node) {
  const stage = stages[at], graph = stage.graph;
  const shown = state.pass;
  const { gone, fresh } = diff(shown);
  const isAfter = side === "after";
  const before = stages[Math.max(shown - 1, 0)].graph, after = stages[shown].graph;
  const other = kin(isAfter ? before : after, node.src);
  const changed = isAfter ? fresh[node.i] : gone[node.i];
  const partners = changed ? other.filter((n) => (isAfter ? gone[n.i] : fresh[n.i])) : [];
  // Several new nodes may stand for the same old ones.
  const siblings = isAfter && partners.length ? kin(after, [...new Set(partners.flatMap((n) => n.src))]).filter((n) => fresh[n.i] && n.i !== node.i) : [];
  const relation = !changed ? `Not changed by ${stages[shown].name}.`
    : !partners.length ? (isAfter ? `Made by ${stages[shown].name}.` : `Gone after ${stages[shown].name}: nothing stands in its place.`)
    : !isAfter ? "Became" : siblings.length ? `${many(partners.length, "node")} became ${siblings.length + 1}` : partners.length > 1 ? `Merged from ${partners.length} nodes` : "Made from";
  const why = touching(rewritesBy, node.src), not = touching(missedBy, node.src), decided = touching(choicesBy, node.src);
  const made = why.inside.filter((e) => stageOf(e.pass) <= at || isAfter && stageOf(e.pass) <= shown);
  const later = [...why.inside, ...why.beside].filter((e) => !made.includes(e)).sort((a, b) => a.id - b.id);
  const into = kernelsOf(node);
  const tags = new Map();
  node.src.forEach((id) => { const op = sourceParts(id).op; if (op) tags.set(op, (tags.get(op) || 0) + 1); });
  return [
    h("div", { class: `headline f-${node.family}` }, h("span", { class: "dot" }), h("h2", {}, node.op), h("span", { class: "chip" }, `${isAfter ? "after" : "before"} ${stages[shown].name}`)),
    h("p", { class: "quiet doc" }, node.doc),
    crumbs(node.dir),
    h("dl", { class: "facts" },
      h("dt", {}, "type"), h("dd", { class: "mono" }, node.type),
      node.name ? [h("dt", {}, "value"), h("dd", { class: "mono" }, node.name)] : null,
      h("dt", {}, "estimate"), h("dd", {}, `${time(node.cost)} · ${share(node.cost, graph.cost)}`, bar(node.cost / graph.top, "cost")),
      node.outputs.length ? [h("dt", {}, "output"), h("dd", {}, node.outputs.join(", "))] : null,
      node.attrs ? [h("dt", {}, "attributes"), h("dd", {}, h("pre", { class: "attrs" }, node.attrs))] : null),
    node.regions.length ? section("Sub-graphs", node.regions.map((text) => h("details", { class: "more" }, h("summary", {}, text.slice(0, text.indexOf(":"))), h("pre", { class: "mono" }, text)))) : null,
    section(relation, few(partners, nodeButton(isAfter ? Math.max(shown - 1, 0) : shown, isAfter ? "before" : "after"))),
    siblings.length ? h("div", { class: "together" }, h("p", { class: "quiet" }, "together with"), few(siblings, nodeButton(shown, "after"), 5)) : null,
    partners.length ? null : h("p", { class: "quiet" }, relation),
    section(many(made.length, "rewrite that made it", "rewrites that made it"), few(made, rewriteLine, 5)),
    (() => {
      const steps = touching(stepsBy, node.src).inside.filter((e) => stageOf(e.pass) <= (isAfter ? shown : at));
      return steps.length ? section(`Step by step (${steps.length})`, h("ol", { class: "steps" }, few(steps, (e) => h("li", {}, stepLine(e)), 10))) : null;
    })(),
    section("Other rewrites here", few(later, rewriteLine, 3)),
    section("Why not", few([...not.inside, ...not.beside], missedLine, 6)),
    section("Decisions", few([...decided.inside, ...decided.beside], choiceLine, 6)),
    section(into.length > 1 ? `In ${into.length} kernels` : "Kernel", into.length ? few(into, kernelLine, 6)
      : [h("p", { class: "quiet" }, kernels.length ? "No kernel is about its sources: a view, or folded away." : "Not compiled.")]),
    section("Operands", few(node.ins, (o) => operandLine(graph, o, shown, side))),
    section(many(node.users.length, "user"), few(node.users.map((i) => graph.nodes[i]), nodeButton(shown, side))),
    section(many(node.src.length, "ONNX node"), tags.size > 1 ? [h("p", { class: "tags" }, [...tags].map(([op, n]) => h("span", { class: "chip" }, n > 1 ? `${op} ×${n}` : op)))] : null,
      h("ul", { class: "names" }, few(node.src, (id) => h("li", { class: "mono" }, S[id]), 12))),
  ];
}

function choiceLine(c) {
  const most = Math.max(1e-9, ...c.alternatives.map((a) => a.cost));
  return h("div", { class: "event" }, h("b", {}, `${c.what} of ${c.subject}: ${c.chosen}`), extras(c, CHOICE_FIELDS),
    c.alternatives.map((a) => h("div", { class: a.name === c.chosen ? "alternative chosen" : "alternative" }, h("span", {}, a.name), bar(a.cost / most, "cost"), h("span", { class: "num" }, `${a.cost} µs`))));
}

const kernelLine = (k) => h("button", { class: "node-line", onclick: () => set({ kernel: k.i, node: null, block: null, tab: "kernels" }) }, h("span", { class: "dot kernel" }), h("b", {}, k.name), h("span", { class: "quiet" }, `call ${k.i} · ${measured ? time(k.measured) : many(k.tasks, "task")}`));

function kernelDetails(k) {
  const graph = stages[last].graph;
  const total = kernels.reduce((sum, x) => sum + x.cost, 0);
  return [
    h("div", { class: "headline" }, h("span", { class: "dot kernel" }), h("h2", {}, k.name), h("span", { class: "chip" }, `call ${k.i}`)),
    h("dl", { class: "facts" }, measured ? [h("dt", {}, "measured"), h("dd", {}, `${time(k.measured)} · ${share(k.measured, measured.reduce((a, b) => a + b, 0))}`)] : null,
      h("dt", {}, "estimate"), h("dd", {}, `${time(k.cost)} · ${share(k.cost, total)}`), h("dt", {}, "tasks"), h("dd", {}, k.tasks)),
    extras(k, new Set(["i", "name", "tasks", "sources", "cost", "nodes", "measured"])),
    h("button", { class: "action", onclick: () => goTo({ pass: stages[last].name, sources: k.sources }) }, "Show in the graph"),
    section(many(k.nodes.length, "node of the graph", "nodes of the graph"), few(k.nodes.map((i) => graph.nodes[i]), nodeButton(last, "after"), 14)),
    section("Why not", (() => { const t = touching(missedBy, k.sources); return few([...t.inside, ...t.beside], missedLine, 8); })()),
    section(many(k.sources.length, "ONNX node"), h("ul", { class: "names" }, few(k.sources, (id) => h("li", { class: "mono" }, S[id]), 14))),
  ];
}

function blockDetails(block) {
  const dir = block.split("/");
  const inside = (graph) => graph.nodes.filter((n) => dir.every((d, i) => n.dir[i] === d));
  const graph = stages[state.pass].graph, nodes = inside(graph), was = inside(stages[Math.max(state.pass - 1, 0)].graph);
  const cost = nodes.reduce((sum, n) => sum + n.cost, 0);
  return [
    h("div", { class: "headline" }, h("span", { class: "dot block" }), h("h2", {}, dir[dir.length - 1]), h("span", { class: "chip" }, "block")),
    crumbs(dir.slice(0, -1)),
    h("dl", { class: "facts" }, h("dt", {}, "nodes"), h("dd", {}, was.length === nodes.length ? nodes.length : `${was.length} → ${nodes.length}`),
      h("dt", {}, "estimate"), h("dd", {}, `${time(cost)} · ${share(cost, graph.cost)}`, bar(cost / graph.cost, "cost"))),
    h("button", { class: "action", onclick: () => openBlock(block) }, "Open this block"),
    section("Operations", opTable(was, nodes)),
  ];
}

/** How often each operation occurs before and after. */
function opTable(before, after) {
  const count = new Map();
  const family = new Map();
  const add = (list, at) => list.forEach((n) => { if (!count.has(n.op)) count.set(n.op, [0, 0]); count.get(n.op)[at]++; family.set(n.op, n.family); });
  add(before, 0); add(after, 1);
  const most = Math.max(1, ...[...count.values()].map((c) => Math.max(...c)));
  const rows = [...count].sort(([a, x], [b, y]) => Math.abs(y[1] - y[0]) - Math.abs(x[1] - x[0]) || y[1] - x[1] || (a < b ? -1 : 1));
  return h("table", { class: "ops" }, h("tbody", {}, rows.map(([op, [b, a]]) => h("tr", { class: a > b ? "more" : a < b ? "less" : null },
    h("td", {}, h("button", { class: `link f-${family.get(op)}`, onclick: () => set({ q: `op:${op}`, tab: "graph" }) }, h("span", { class: "dot" }), op)),
    h("td", { class: "pair" }, bar(b / most, "was"), bar(a / most, "is")),
    h("td", { class: "num" }, b === a ? a : h("span", {}, `${b} → `, h("b", {}, a)))))));
}

function passDetails() {
  const at = state.pass, stage = stages[at];
  const before = stages[Math.max(at - 1, 0)].graph;
  const list = groups(rewrites.filter((e) => e.pass === stage.name), (e) => e.rule);
  return [
    h("div", { class: "headline" }, h("h2", {}, stage.name), h("span", { class: "chip" }, at ? "pass" : "as imported")),
    h("p", { class: "doc" }, at ? stage.doc : "The ONNX model as Egret's own operations, before any pass."),
    h("dl", { class: "facts" }, h("dt", {}, "nodes"), h("dd", {}, at ? `${before.nodes.length} → ${stage.graph.nodes.length}` : stage.graph.nodes.length),
      h("dt", {}, "estimate"), h("dd", {}, at ? `${time(before.cost)} → ${time(stage.graph.cost)}` : time(stage.graph.cost))),
    at ? section(many(list.length, "rule applied", "rules applied"), few(list, (g) => h("button", { class: "node-line", onclick: () => set({ tab: "rewrites", q: g[0].rule, all: false }) }, h("span", { class: "count" }, `${g.length}×`), h("b", {}, g[0].rule)), 12)) : null,
    at && stage.same ? h("p", { class: "note" }, "This pass found nothing to change.") : null,
    limits.filter((l) => l.pass === stage.name).map((l) => h("p", { class: "note warn" }, `It stopped at a limit: ${l.limit} = ${l.value.toLocaleString("en")}.`)),
    section("Operations", opTable(at ? before.nodes : stage.graph.nodes, stage.graph.nodes)),
    proofSteps.some((e) => e.pass === stage.name) ? section("Proof", h("button", { class: "link", onclick: () => set({ tab: "rewrites", steps: true, all: false, q: "" }) }, `${many(proofSteps.filter((e) => e.pass === stage.name).length, "step")} from the graph before to the graph after`)) : null,
    otherTables(otherEvents.filter((e) => e.pass === stage.name || (e.pass === undefined && at === last))),
    h("p", { class: "quiet hint" }, "Choose a node to see where it came from, what it cost, and what was not done to it. Numbers on nodes count the ONNX nodes merged in them."),
  ];
}

function renderDetails() {
  const el = document.getElementById("details");
  let content;
  const shownGraph = () => stages[state.side === "before" ? Math.max(state.pass - 1, 0) : state.pass].graph;
  if (state.kernel !== null && kernels[state.kernel]) content = kernelDetails(kernels[state.kernel]);
  else if (state.node !== null && shownGraph().nodes[state.node]) content = nodeDetails(state.side === "before" ? Math.max(state.pass - 1, 0) : state.pass, state.side, shownGraph().nodes[state.node]);
  else if (state.block) content = blockDetails(state.block);
  else content = passDetails();
  el.replaceChildren(...content.flat(3).filter(Boolean));
  el.scrollTop = 0;
}
