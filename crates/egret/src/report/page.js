// State, its mirror in the address (so that a view can be shared), keys, and the parts of the page around the view.

const state = { pass: last, tab: "graph", side: "after", node: null, kernel: null, block: null, q: "", view: "split", all: true, sort: "cost", sources: null, steps: false, together: true };

const TABS = [["graph", "Graph", () => null], ["rewrites", "Rewrites", () => rewrites.length], ["missed", "Why not", () => missed.length], ["kernels", "Kernels", () => (DATA.compiled.kernels ? kernels.length : null)], ["timeline", "Timeline", () => null]];

/** Where a chosen kernel stays chosen. */
const OF_KERNELS = new Set(["kernels", "timeline"]);

function readAddress() {
  const p = new URLSearchParams(location.hash.slice(1));
  const at = stages.findIndex((st) => st.name === p.get("pass"));
  if (at >= 0) state.pass = at;
  if (TABS.some(([id]) => id === p.get("tab"))) state.tab = p.get("tab");
  const number = (name) => (p.has(name) && /^\d+$/.test(p.get(name)) ? Number(p.get(name)) : null);
  state.side = p.get("side") === "before" ? "before" : "after";
  state.node = number("node");
  state.kernel = number("kernel");
  state.block = p.get("block");
  state.q = p.get("q") || "";
  state.steps = p.has("steps");
  if (["split", "before", "after"].includes(p.get("view"))) state.view = p.get("view");
  if (p.get("theme")) document.documentElement.dataset.theme = p.get("theme");
  if (p.has("depth") && number("depth") !== null) blocks.set(number("depth"));
  return p;
}

function writeAddress() {
  const p = new URLSearchParams();
  p.set("pass", stages[state.pass].name);
  if (state.tab !== "graph") p.set("tab", state.tab);
  if (state.node !== null) { p.set("node", state.node); if (state.side === "before") p.set("side", "before"); }
  if (state.steps) p.set("steps", "1");
  if (state.kernel !== null) p.set("kernel", state.kernel);
  if (state.block) p.set("block", state.block);
  if (state.q) p.set("q", state.q);
  if (state.view !== "split") p.set("view", state.view);
  if (blocks.depth !== 99) p.set("depth", blocks.depth);
  if (document.documentElement.dataset.theme) p.set("theme", document.documentElement.dataset.theme);
  try { history.replaceState(null, "", `#${p}`); } catch { /* some browsers refuse it for files */ }
}

/** Change the state and show it. `relayout`: blocks have been opened or closed. */
function set(change, relayout) {
  const was = { ...state };
  if (change.pass !== undefined && change.pass !== state.pass && change.node === undefined) change = { node: null, kernel: null, ...change };
  if (change.tab !== undefined && !OF_KERNELS.has(change.tab) && state.kernel !== null && change.kernel === undefined) change = { ...change, kernel: null };
  if ((change.node !== undefined || change.pass !== undefined || change.kernel !== undefined) && change.sources === undefined) change = { ...change, sources: null };
  Object.assign(state, change);
  render(was, relayout);
}

/** Show where something happened: its pass, with its sources marked before and after. */
function goTo(event) {
  const at = stageOf(event.pass);
  set({ tab: "graph", pass: at, node: null, kernel: null, block: null, sources: event.sources });
}

const panes = {
  before: new Pane("before", { pick, hover, open: openBlock, moved: follow }),
  after: new Pane("after", { pick, hover, open: openBlock, moved: follow }),
};

/**
 * The other pane shows the same part of the model: heights of one side and the other at which nodes of the same ONNX nodes
 * stand are joined by lines.
 */
function follow(side, zoomed) {
  if (!state.together || state.view !== "split" || !state.pass) return;
  const from = panes[side], to = panes[side === "before" ? "after" : "before"];
  if (!from.graph || !to.graph) return;
  const y = from.svg.clientHeight / 2, at = (y - from.ty) / from.scale;
  const goal = mapHeight(side, from, to, at);
  if (goal === null) return;
  if (zoomed) to.zoom(from.scale / to.scale);
  to.ty = to.svg.clientHeight / 2 - goal * to.scale;
  to.moved();
}

let joints = null;
function mapHeight(side, from, to, at) {
  if (!joints || joints.from !== from.layout || joints.to !== to.layout) {
    const middle = (pane, k) => pane.layout.y[k] + pane.items[k].h / 2;
    const points = from.items.map((it, k) => {
      const ks = new Set(it.nodes.slice(0, 40).flatMap((n) => kin(to.graph, n.src).map((m) => to.itemOf.get(m.i))));
      return ks.size ? [middle(from, k), [...ks].reduce((sum, q) => sum + middle(to, q), 0) / ks.size] : null;
    }).filter(Boolean).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    let most = 0;
    for (const p of points) { most = Math.max(most, p[1]); p[1] = most; }
    joints = { from: from.layout, to: to.layout, points: [[0, 0], ...points, [from.layout.height, to.layout.height]] };
  }
  const { points } = joints;
  let i = 1;
  while (i < points.length - 1 && points[i][0] < at) i++;
  const [x0, y0] = points[i - 1], [x1, y1] = points[i];
  return x1 > x0 ? y0 + ((Math.min(Math.max(at, x0), x1) - x0) * (y1 - y0)) / (x1 - x0) : y0;
}

function pick(side, item) {
  if (!item || item.kind === "input" || item.kind === "output") set({ node: null, block: null, kernel: null });
  else if (item.kind === "block") set({ block: item.block, node: null, kernel: null, side });
  else set({ node: item.nodes[0].i, side, block: null, kernel: null });
}

let hovered = null;
function hover(side, item) {
  const key = item ? `${side}${item.k}` : null;
  if (key === hovered) return;
  hovered = key;
  hoverSources(item && item.nodes.length ? new Set(item.nodes.flatMap((n) => n.src)) : null, side, item);
}

/** Mark what comes from the same ONNX nodes, on both sides. */
function hoverSources(src, side, item) {
  for (const name of ["before", "after"]) {
    const pane = panes[name];
    if (!pane.graph) continue;
    const ids = new Set();
    if (src) for (const id of src) for (const i of pane.graph.bySource.get(id) || []) ids.add(i);
    if (item && name === side) item.nodes.forEach((n) => ids.add(n.i));
    pane.mark("hover", ids);
  }
}

function openBlock(block) {
  const dir = block.split("/");
  for (let d = 1; d <= dir.length; d++) blocks.open.set(dir.slice(0, d).join("/"), true);
  // A block whose nodes are all in one inner block is opened down to where they part.
  const graph = stages[state.pass].graph;
  for (;;) {
    const inner = new Set(graph.nodes.filter((n) => dir.every((d, i) => n.dir[i] === d)).map((n) => n.dir[dir.length]));
    if (inner.size !== 1 || inner.has(undefined)) break;
    dir.push([...inner][0]);
    blocks.open.set(dir.join("/"), true);
  }
  state.block = null;
  render(state, true);
  const first = graph.nodes.find((n) => dir.every((d, i) => n.dir[i] === d));
  if (first) for (const name of ["before", "after"]) {
    const pane = panes[name];
    if (pane.el.isConnected) pane.lookAtNodes(kin(pane.graph, first.src).map((n) => n.i), true);
  }
}

function collapseTo(depth) {
  blocks.set(depth);
  render(state, true, true);
}

/** The graph's own bar and its panes. */
const bench = (() => {
  const bar = h("div", { class: "toolbar" });
  const holder = h("div", { class: "panes" }, panes.before.el, panes.after.el);
  return { el: h("div", { class: "bench" }, bar, holder), bar, holder };
})();

function toolbar() {
  const at = state.pass;
  const views = at ? [["before", "Before"], ["split", "Both"], ["after", "After"]] : [];
  const deepest = blocks.deepest();
  const each = (name, arg) => () => Object.values(panes).forEach((p) => { if (p.el.offsetParent) p[name](arg); });
  bench.bar.replaceChildren(...[
    views.length ? h("div", { class: "segments", role: "group", "aria-label": "Sides" }, views.map(([id, text]) => h("button", { "aria-pressed": String(state.view === id), onclick: () => set({ view: id }, true) }, text))) : null,
    deepest ? h("div", { class: "blocks" }, h("span", { class: "quiet" }, "Blocks"),
      h("button", { class: "icon", title: "Collapse one level ([)", "aria-label": "Collapse one level", onclick: () => deeper(-1) }, "−"),
      h("span", { class: "num" }, blocks.depth > deepest ? "all open" : `level ${blocks.depth}`),
      h("button", { class: "icon", title: "Open one level (])", "aria-label": "Open one level", onclick: () => deeper(1) }, "+")) : null,
    h("div", { class: "spacer" }),
    views.length && state.view === "split" ? h("button", { class: "text toggle", "aria-pressed": String(state.together), title: "Both sides show the same part of the model (s)", onclick: () => set({ together: !state.together }) }, "Scroll together") : null,
    h("div", { class: "zoom" }, h("button", { class: "icon", title: "Smaller (-)", "aria-label": "Smaller", onclick: each("zoom", 0.8) }, "−"), h("button", { class: "icon", title: "Larger (+)", "aria-label": "Larger", onclick: each("zoom", 1.25) }, "+"),
      h("button", { class: "text", title: "From the top (f)", onclick: each("fit") }, "Top"), h("button", { class: "text", title: "Whole graph (0)", onclick: each("overview") }, "Whole")),
  ].filter(Boolean));
}

function deeper(by) {
  const deepest = blocks.deepest();
  const now = Math.min(blocks.depth, deepest + 1);
  const next = Math.max(1, Math.min(deepest + 1, now + by));
  collapseTo(next > deepest ? 99 : next);
}

function renderGraph(was, relayout, refit) {
  const at = state.pass, fromImport = at === 0;
  const { gone, fresh } = diff(at);
  const before = stages[Math.max(at - 1, 0)], after = stages[at];
  const only = fromImport ? "after" : state.view;
  bench.holder.dataset.view = only;
  toolbar();
  const heading = (pane, text, stage, changed, word) => pane.heading.replaceChildren(h("b", {}, text), h("span", { class: "quiet" }, `${many(stage.graph.nodes.length, "node")} · ${time(stage.graph.cost)}`),
    changed ? h("span", { class: `chip ${word}` }, `${changed} ${word === "gone" ? "gone" : "new"}`) : "");
  heading(panes.before, `Before ${after.name}`, before, gone.filter(Boolean).length, "gone");
  heading(panes.after, fromImport ? "Imported" : `After ${after.name}`, after, fromImport ? 0 : fresh.filter(Boolean).length, "fresh");
  if (!document.getElementById("view").contains(bench.el)) document.getElementById("view").replaceChildren(bench.el);
  const src = state.sources || (state.node !== null ? (stages[state.side === "before" ? Math.max(at - 1, 0) : at].graph.nodes[state.node] || {}).src : null);
  let opened = false;
  if (src) for (const stage of [before, after]) for (const n of kin(stage.graph, src)) if (blocks.of(n) && (state.node !== null || state.sources)) { blocks.reveal(n); opened = true; }
  const fresh0 = !panes.after.graph;
  const draw = (name, stage, status) => {
    const pane = panes[name];
    if (only !== "split" && only !== name) { pane.graph = null; return; }
    if (pane.graph !== stage.graph || pane.stage !== at || relayout || opened) {
      const stay = pane.graph && (relayout || opened) && !refit && pane.graph === stage.graph && was.view === state.view;
      pane.stage = at;
      pane.show(stage.graph, status, stay);
    }
    const m = matcher(state.q);
    pane.marks.match = m ? new Set(stage.graph.nodes.filter(m.node).map((n) => n.i)) : null;
    const chosen = new Set();
    if (state.sources) kin(stage.graph, state.sources).filter((n) => n.src.some((x) => state.sources.includes(x))).forEach((n) => chosen.add(n.i));
    else if (state.node !== null && state.side === name) chosen.add(state.node);
    else if (state.node !== null && src) kin(stage.graph, src).forEach((n) => chosen.add(n.i));
    else if (state.block) stage.graph.nodes.forEach((n) => { if (n.dir.join("/").startsWith(state.block)) chosen.add(n.i); });
    pane.mark("chosen", chosen);
    if ((state.node !== null || state.sources) && (was.node !== state.node || was.sources !== state.sources || was.pass !== state.pass || was.side !== state.side || was.tab !== state.tab || fresh0 || opened)) pane.lookAtNodes([...chosen]);
  };
  draw("before", before, gone);
  draw("after", after, fromImport ? fresh.map(() => false) : fresh);
}

function render(was, relayout, refit) {
  const view = document.getElementById("view");
  renderTabs();
  renderPasses();
  if (state.tab === "graph") renderGraph(was, relayout, refit);
  else {
    const draw = { rewrites: rewritesView, missed: missedView, kernels: kernelsView, timeline: timelineView }[state.tab];
    const keep = was.tab === state.tab && was.q === state.q ? view.firstElementChild?.scrollTop : 0;
    view.replaceChildren(draw());
    timelineShown();
    if (keep) view.firstElementChild.scrollTop = keep;
    else if (state.kernel !== null && state.tab === "kernels") document.getElementById(`kernel-${state.kernel}`)?.scrollIntoView({ block: "center" });
  }
  renderFound();
  renderDetails();
  writeAddress();
}

function renderTabs() {
  document.getElementById("tabs").replaceChildren(...TABS.map(([id, text, count]) => h("button", { role: "tab", "aria-selected": String(state.tab === id), onclick: () => set({ tab: id }) }, text, count() === null ? null : h("span", { class: "tab-count" }, count().toLocaleString("en")))));
}

function renderPasses() {
  const mostNodes = Math.max(1, ...stages.map((st) => st.graph.nodes.length)), mostCost = Math.max(1, ...stages.map((st) => st.graph.cost));
  document.getElementById("passes").replaceChildren(...stages.map((st, i) => {
    const before = i ? stages[i - 1].graph : st.graph;
    const done = rewrites.filter((e) => e.pass === st.name).length;
    const step = st.graph.nodes.length - before.nodes.length;
    return h("li", {}, h("button", { class: `pass-button${st.same ? " same" : ""}`, "aria-current": i === state.pass ? "step" : null, title: st.doc || null, onclick: () => set({ pass: i }) },
      h("span", { class: "pass-name" }, st.name, step ? h("span", { class: step < 0 ? "less" : "more" }, `${step < 0 ? "−" : "+"}${Math.abs(step)}`) : null),
      h("span", { class: "pass-line" }, i && step ? `${before.nodes.length} → ${st.graph.nodes.length} nodes` : `${many(st.graph.nodes.length, "node")}`), bar(st.graph.nodes.length / mostNodes, "nodes"),
      h("span", { class: "pass-line" }, `${time(st.graph.cost)} estimated`), bar(st.graph.cost / mostCost, "cost"),
      done ? h("span", { class: "pass-line" }, many(done, "rewrite")) : st.same && i ? h("span", { class: "pass-line quiet" }, "no change") : null));
  }), h("li", {}, h("button", { class: "pass-button", title: "Nodes share kernels: what is compiled", onclick: () => set({ tab: "kernels", pass: last }) },
    h("span", { class: "pass-name" }, "lower"), h("span", { class: "pass-line" }, kernels.length ? `${stages[last].graph.nodes.length} nodes → ${many(kernels.length, "kernel")}` : "not compiled"), kernels.length ? bar(kernels.length / mostNodes, "nodes") : null)));
}

function renderFound() {
  const out = document.getElementById("found"), m = matcher(state.q);
  if (!m) { out.textContent = ""; return; }
  const nodes = stages[state.pass].graph.nodes.filter(m.node).length;
  const count = { graph: () => many(nodes, "node"), rewrites: () => many(rewrites.filter((e) => inScope(e) && m.event(e)).length, "rewrite"), missed: () => `${missed.filter((e) => inScope(e) && m.event(e)).length} found`, kernels: () => many(kernels.filter(m.event).length, "kernel") };
  count.timeline = count.kernels;
  out.textContent = count[state.tab]();
}

/** The next node that matches the search. */
function nextMatch(step) {
  const m = matcher(state.q);
  if (!m) return;
  const graph = stages[state.pass].graph, ids = graph.nodes.filter(m.node).map((n) => n.i);
  if (!ids.length) return;
  const now = state.side === "after" && state.node !== null ? state.node : -1;
  const next = step > 0 ? ids.find((i) => i > now) ?? ids[0] : [...ids].reverse().find((i) => i < now) ?? ids[ids.length - 1];
  set({ tab: "graph", node: next, side: "after", block: null, kernel: null, view: state.view === "before" ? "split" : state.view });
}

/** Along the graph from the chosen node: to its first operand, or its first user. */
function walk(step) {
  const graph = stages[state.side === "before" ? Math.max(state.pass - 1, 0) : state.pass].graph, node = graph.nodes[state.node ?? -1];
  if (!node) { set({ node: 0 }); return; }
  const next = step > 0 ? node.users[0] : node.ins.map(operandRef).find((r) => r.kind === "node")?.i;
  if (next !== undefined) set({ node: next });
}

const KEYS = [["/", "search; Enter goes to the next node found"], ["← →", "pass before, pass after"], ["↑ ↓", "to the first operand, to the first user"], ["1 2 3 4 5", "graph, rewrites, why not, kernels, timeline"], ["b", "before, both, after"], ["s", "scroll both sides together, or not"], ["[ ]", "collapse, open blocks"], ["+ − 0 f", "zoom, whole graph, from the top"], ["t", "light or dark"], ["Esc", "leave the search, choose nothing"], ["drag, wheel, Ctrl+wheel", "move, scroll, zoom"]];

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  Object.values(panes).forEach((p) => { if (p.graph) p.moved(); });
  writeAddress();
}

function start() {
  document.getElementById("title").textContent = DATA.title;
  const first = stages[0].graph, end = stages[last].graph;
  document.getElementById("summary").textContent = `${first.nodes.length.toLocaleString("en")} → ${many(end.nodes.length, "node")}${kernels.length ? ` → ${many(kernels.length, "kernel")}` : ""} · ${time(first.cost)} → ${time(end.cost)} estimated${measured ? `, ${time(measured.reduce((a, b) => a + b, 0))} measured` : ""} · ${DATA.producer}`;
  const legend = [["contraction", "products, convolutions"], ["reduction", "norms, reductions, pools"], ["elementwise", "elementwise"], ["movement", "movements, views"], ["other", "other"]];
  document.getElementById("legend").append(h("h2", {}, "Colours"), h("ul", {}, legend.map(([f, text]) => h("li", { class: `f-${f}` }, h("span", { class: "dot" }), text)), h("li", {}, h("span", { class: "frame gone" }), "gone after the pass"), h("li", {}, h("span", { class: "frame fresh" }), "made by the pass")));
  const deciding = stages.reduce((m, st) => (st.graph.nodes.length > m.nodes.length ? st.graph : m), end);
  // The most telling pass comes first: the one that changed most.
  const change = stages.map((st, i) => (i ? diff(i).gone.filter(Boolean).length : 0));
  state.pass = Math.max(0, change.indexOf(Math.max(...change)));
  if (DATA.focus) { state.q = DATA.focus.q || ""; state.tab = DATA.focus.tab || "graph"; }
  if (deciding.nodes.length > 160) { const depth = blocks.comfortable(deciding, 110); blocks.set(depth); }
  readAddress();
  const search = document.getElementById("search");
  search.value = state.q;
  let later = null;
  search.addEventListener("input", () => { clearTimeout(later); later = setTimeout(() => set({ q: search.value }), 120); });
  search.addEventListener("keydown", (e) => {
    if (e.key === "Enter") { state.q = search.value; if (state.tab === "graph") nextMatch(e.shiftKey ? -1 : 1); else set({ q: search.value }); }
    if (e.key === "Escape") { search.value = ""; search.blur(); set({ q: "" }); }
    e.stopPropagation();
  });
  document.getElementById("theme").addEventListener("click", toggleTheme);
  const keys = document.getElementById("keys");
  keys.append(h("h2", {}, "Keys"), h("dl", {}, KEYS.map(([k, text]) => [h("dt", {}, k.split(" ").map((x) => h("kbd", {}, x))), h("dd", {}, text)])), h("button", { class: "action", onclick: () => keys.close() }, "Close"));
  document.getElementById("help").addEventListener("click", () => keys.showModal());
  addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || keys.open) return;
    const each = (name, arg) => Object.values(panes).forEach((p) => { if (p.el.offsetParent) p[name](arg); });
    const act = {
      "/": () => { search.focus(); search.select(); }, "?": () => keys.showModal(), t: toggleTheme, f: () => each("fit"), 0: () => (state.tab === "timeline" ? stretchTimeline(0) : each("overview")), "+": () => (state.tab === "timeline" ? stretchTimeline(1.5) : each("zoom", 1.25)), "-": () => (state.tab === "timeline" ? stretchTimeline(1 / 1.5) : each("zoom", 0.8)),
      ArrowLeft: () => set({ pass: Math.max(0, state.pass - 1) }), ArrowRight: () => set({ pass: Math.min(last, state.pass + 1) }), ArrowUp: () => walk(-1), ArrowDown: () => walk(1),
      1: () => set({ tab: "graph" }), 2: () => set({ tab: "rewrites" }), 3: () => set({ tab: "missed" }), 4: () => set({ tab: "kernels" }), 5: () => set({ tab: "timeline" }),
      b: () => set({ view: { before: "split", split: "after", after: "before" }[state.view] }, true), s: () => set({ together: !state.together }), "[": () => deeper(-1), "]": () => deeper(1),
      Escape: () => set({ node: null, block: null, kernel: null, sources: null }),
    }[e.key];
    if (act) { e.preventDefault(); act(); }
  });
  addEventListener("hashchange", () => { const was = { ...state }; readAddress(); search.value = state.q; render(was, true); });
  render({ ...state, node: null, tab: "" }, true);
  document.documentElement.dataset.ready = "true";
}

start();
