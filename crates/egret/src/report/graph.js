// A pane with a graph: items (nodes, collapsed blocks, inputs and outputs) in layers, drawn where one looks, with pan, zoom and a map.

const SVG = "http://www.w3.org/2000/svg";
function s(tag, props, ...children) {
  const el = document.createElementNS(SVG, tag);
  for (const [k, v] of Object.entries(props || {})) if (v !== undefined && v !== null) el.setAttribute(k, v);
  el.append(...children);
  return el;
}
/** A colour of the style sheet as the canvas understands it, for the present theme. */
const ink = (() => {
  const probe = h("span", { hidden: true });
  let theme = null, known = new Map();
  return (name) => {
    if (!probe.isConnected) document.body.append(probe);
    const now = `${document.documentElement.dataset.theme} ${matchMedia("(prefers-color-scheme: dark)").matches}`;
    if (now !== theme) { theme = now; known = new Map(); }
    if (!known.has(name)) { probe.style.color = `var(--${name})`; known.set(name, getComputedStyle(probe).color); }
    return known.get(name);
  };
})();
const clip = (text, n) => (text.length > n ? `${text.slice(0, n - 1)}…` : text);

/** Which blocks (folders of ONNX names) stand as one item. Shared by both panes. */
const blocks = {
  depth: 99,
  open: new Map(),
  isOpen(dir, d) {
    const set = this.open.get(dir.slice(0, d).join("/"));
    return set === undefined ? d < this.depth : set;
  },
  /** The collapsed block that a node is in: its folder, or null. */
  of(node) {
    for (let d = 1; d <= node.dir.length; d++) if (!this.isOpen(node.dir, d)) return node.dir.slice(0, d).join("/");
    return null;
  },
  reveal(node) {
    for (let d = 1; d <= node.dir.length; d++) if (!this.isOpen(node.dir, d)) this.open.set(node.dir.slice(0, d).join("/"), true);
  },
  set(depth) { this.depth = depth; this.open.clear(); },
  deepest() { return Math.max(0, ...stages.map((st) => st.graph.nodes.reduce((m, n) => Math.max(m, n.dir.length), 0))); },
  /** The greatest depth at which a graph is still easy to take in. */
  comfortable(graph, most) {
    for (let depth = this.deepest(); depth >= 1; depth--) {
      this.set(depth + 1);
      if (itemsOf(graph).length <= most) return depth + 1;
    }
    this.set(1);
    return itemsOf(graph).length < graph.nodes.length * 0.8 ? 1 : 99;
  },
};

/** The items of a graph under the present blocks, in the order of their first nodes. */
function itemsOf(graph) {
  const items = [], byBlock = new Map();
  graph.inputs.forEach(([name, type], i) => {
    if (graph.inputUsers[i].length || graph.outputs.some(([, o]) => o === -1 - i)) items.push({ kind: "input", label: name, type, input: i, nodes: [] });
  });
  for (const node of graph.nodes) {
    const block = blocks.of(node);
    const had = block && byBlock.get(block);
    if (had) { had.nodes.push(node); continue; }
    const item = { kind: block ? "block" : "node", block, nodes: [node] };
    if (block) byBlock.set(block, item);
    items.push(item);
  }
  graph.outputs.forEach(([name, operand, type]) => items.push({ kind: "output", label: name, type, operand, nodes: [] }));
  for (const it of items) {
    if (it.kind === "block" && it.nodes.length === 1) it.kind = "node";
    it.cost = it.nodes.reduce((sum, n) => sum + n.cost, 0);
    if (it.kind === "node") {
      const node = it.nodes[0];
      it.label = node.op;
      it.type = node.type;
      it.badge = node.src.length > 1 ? `${node.src.length}` : "";
      it.w = Math.min(230, Math.max(96, node.op.length * 7.6 + 30 + (it.badge ? 26 : 0), Math.min(node.type.length, 30) * 6.1 + 26));
      it.h = 44;
    } else if (it.kind === "block") {
      it.label = clip(it.block.split("/").slice(-2).join(" / "), 34);
      it.type = `${many(it.nodes.length, "node")} · ${time(it.cost)}`;
      it.w = Math.max(130, it.label.length * 7.6 + 70, it.type.length * 6.1 + 30);
      it.h = 50;
    } else {
      it.label = clip(it.label, 28);
      it.w = Math.min(230, Math.max(80, it.label.length * 7 + 28, Math.min(it.type.length, 30) * 6.1 + 28));
      it.h = 38;
    }
  }
  return items;
}

class Pane {
  constructor(side, handlers) {
    this.side = side;
    this.on = handlers;
    this.heading = h("div", { class: "pane-heading" });
    this.svg = s("svg", { class: "canvas", role: "img", "aria-label": `Graph ${side}`, tabindex: "-1" });
    this.world = s("g");
    this.edgeLayer = s("g", { class: "edges" });
    this.nodeLayer = s("g", { class: "nodes" });
    this.world.append(this.edgeLayer, this.nodeLayer);
    this.svg.append(this.world);
    this.map = h("canvas", { class: "map", "aria-hidden": "true" });
    this.el = h("div", { class: `pane ${side}` }, this.heading, h("div", { class: "stagebox" }, this.svg, this.map));
    this.scale = 1; this.tx = 0; this.ty = 0;
    this.marks = { hover: new Set(), chosen: new Set(), match: null };
    this.listen();
  }

  listen() {
    let drag = null;
    this.svg.addEventListener("pointerdown", (e) => {
      if (e.button !== 0) return;
      drag = { x: e.clientX, y: e.clientY, tx: this.tx, ty: this.ty, moved: false };
    });
    this.svg.addEventListener("pointermove", (e) => {
      if (!drag) return;
      const dx = e.clientX - drag.x, dy = e.clientY - drag.y;
      if (!drag.moved && Math.hypot(dx, dy) > 4) { drag.moved = true; this.svg.setPointerCapture(e.pointerId); this.svg.classList.add("dragging"); }
      if (drag.moved) { this.tx = drag.tx + dx; this.ty = drag.ty + dy; this.moved(); this.on.moved(this.side); }
    });
    const end = () => { if (drag && drag.moved) this.skipClick = true; drag = null; this.svg.classList.remove("dragging"); };
    this.svg.addEventListener("pointerup", end);
    this.svg.addEventListener("pointercancel", end);
    this.svg.addEventListener("wheel", (e) => {
      e.preventDefault();
      const unit = e.deltaMode === 1 ? 16 : 1;
      if (e.ctrlKey || e.metaKey || e.altKey) { this.zoom(Math.exp(-e.deltaY * unit * 0.002), e.offsetX, e.offsetY); this.on.moved(this.side, true); }
      else { this.tx -= (e.shiftKey ? e.deltaY : e.deltaX) * unit; this.ty -= (e.shiftKey ? 0 : e.deltaY) * unit; this.moved(); this.on.moved(this.side); }
    }, { passive: false });
    const itemAt = (e) => { const el = e.target.closest && e.target.closest("[data-item]"); return el ? this.items[Number(el.dataset.item)] : null; };
    this.svg.addEventListener("click", (e) => {
      if (this.skipClick) { this.skipClick = false; return; }
      this.on.pick(this.side, itemAt(e));
    });
    this.svg.addEventListener("dblclick", (e) => { const it = itemAt(e); if (it && it.kind === "block") this.on.open(it.block); });
    this.svg.addEventListener("pointerover", (e) => this.on.hover(this.side, itemAt(e)));
    this.svg.addEventListener("pointerleave", () => this.on.hover(this.side, null));
    const jump = (e) => { const box = this.map.getBoundingClientRect(); this.lookAt(null, ((e.clientY - box.top) / box.height) * this.layout.height); this.on.moved(this.side); };
    this.map.addEventListener("pointerdown", (e) => { this.map.setPointerCapture(e.pointerId); jump(e); });
    this.map.addEventListener("pointermove", (e) => { if (e.buttons & 1) jump(e); });
    new ResizeObserver(() => { if (this.layout && this.svg.clientWidth) this.moved(true); }).observe(this.svg);
  }

  /** Show a graph. `status[i]`: whether node `i` is gone (before) or new (after). */
  show(graph, status, keepView) {
    this.graph = graph;
    this.status = status;
    this.items = itemsOf(graph);
    const itemOf = new Map(), inputItem = new Map();
    this.items.forEach((it, k) => {
      it.k = k;
      it.changed = it.nodes.filter((n) => status[n.i]).length;
      for (const n of it.nodes) itemOf.set(n.i, k);
      if (it.kind === "input") inputItem.set(it.input, k);
    });
    this.itemOf = itemOf;
    const seen = new Set(), edges = [];
    const add = (operand, to) => {
      const ref = operandRef(operand);
      const from = ref.kind === "node" ? itemOf.get(ref.i) : ref.kind === "input" ? inputItem.get(ref.i) : undefined;
      if (from === undefined || from === to || seen.has(from * 1e6 + to)) return;
      seen.add(from * 1e6 + to);
      edges.push([from, to]);
    };
    for (const node of graph.nodes) for (const operand of node.ins) add(operand, itemOf.get(node.i));
    this.items.forEach((it, k) => { if (it.kind === "output") add(it.operand, k); });
    this.edges = edges;
    this.layout = layoutGraph(this.items, edges);
    this.bounds = this.layout.routes.map((r) => {
      let x0 = Infinity, x1 = -Infinity;
      for (const [x] of r) { x0 = Math.min(x0, x); x1 = Math.max(x1, x); }
      return [x0, Math.min(r[0][1], r[r.length - 1][1]), x1, Math.max(r[0][1], r[r.length - 1][1])];
    });
    this.top = this.items.reduce((m, it) => Math.max(m, it.cost || 0), 1);
    if (keepView) this.moved(true); else this.fit();
  }

  /** The whole width, from the top, at a size that can be read. */
  fit() {
    const w = this.svg.clientWidth || 600, ht = this.svg.clientHeight || 600;
    const all = Math.min(w / this.layout.width, ht / this.layout.height);
    this.scale = Math.min(1.1, Math.max(all, 0.75));
    const middle = this.items.length ? this.layout.x[0] + this.items[0].w / 2 : this.layout.width / 2;
    const wide = this.layout.width * this.scale > w;
    this.tx = w / 2 - (wide ? middle : this.layout.width / 2) * this.scale;
    this.ty = Math.max(0, (ht - this.layout.height * this.scale) / 2);
    this.moved(true);
  }

  /** The whole graph. */
  overview() {
    const w = this.svg.clientWidth, ht = this.svg.clientHeight;
    this.scale = Math.min(1.1, w / this.layout.width, ht / this.layout.height);
    this.tx = w / 2 - (this.layout.width / 2) * this.scale;
    this.ty = (ht - this.layout.height * this.scale) / 2;
    this.moved(true);
  }

  zoom(by, cx = this.svg.clientWidth / 2, cy = this.svg.clientHeight / 2) {
    const next = Math.min(2.5, Math.max(0.01, this.scale * by));
    this.tx = cx - ((cx - this.tx) * next) / this.scale;
    this.ty = cy - ((cy - this.ty) * next) / this.scale;
    this.scale = next;
    this.moved();
  }

  lookAt(x, y) {
    if (x !== null) this.tx = this.svg.clientWidth / 2 - x * this.scale;
    this.ty = this.svg.clientHeight / 2 - y * this.scale;
    this.moved();
  }

  /** Bring nodes into view, unless the first of them is there. */
  lookAtNodes(ids, always) {
    const ks = [...new Set(ids.map((i) => this.itemOf.get(i)))].filter((k) => k !== undefined);
    if (!ks.length) return;
    if (this.scale < 0.45) this.scale = 0.8;
    const mid = (k) => [this.layout.x[k] + this.items[k].w / 2, this.layout.y[k] + this.items[k].h / 2];
    const points = ks.map(mid);
    const inside = ([x, y]) => { const px = x * this.scale + this.tx, py = y * this.scale + this.ty; return px > 60 && py > 30 && px < this.svg.clientWidth - 60 && py < this.svg.clientHeight - 40; };
    if (!always && points.every(inside)) { this.moved(true); return; }
    const ys = points.map((p) => p[1]), tall = Math.max(...ys) - Math.min(...ys);
    const fits = tall * this.scale < this.svg.clientHeight - 80;
    const focus = fits ? [points.reduce((sum, p) => sum + p[0], 0) / points.length, (Math.max(...ys) + Math.min(...ys)) / 2] : points[0];
    this.lookAt(focus[0], focus[1]);
  }

  /** The view has moved: draw what has come into it. */
  moved(force) {
    const w = this.svg.clientWidth, ht = this.svg.clientHeight, k = this.scale;
    this.world.setAttribute("transform", `translate(${this.tx} ${this.ty}) scale(${k})`);
    const view = [-this.tx / k, -this.ty / k, (w - this.tx) / k, (ht - this.ty) / k];
    const fine = k >= 0.4;
    const d = this.drawn;
    if (force || !d || d.fine !== fine || view[0] < d.box[0] || view[1] < d.box[1] || view[2] > d.box[2] || view[3] > d.box[3]) {
      const mx = (view[2] - view[0]) / 2, my = (view[3] - view[1]) / 2;
      this.drawn = { fine, box: [view[0] - mx, view[1] - my, view[2] + mx, view[3] + my] };
      this.draw();
    }
    this.drawMap(view);
  }

  draw() {
    const { fine, box } = this.drawn;
    const { x, y, routes, loose } = this.layout;
    const nodes = document.createDocumentFragment(), edges = document.createDocumentFragment();
    this.shown = new Map();
    this.shownEdges = [];
    this.items.forEach((it, k) => {
      if (x[k] > box[2] || y[k] > box[3] || x[k] + it.w < box[0] || y[k] + it.h < box[1]) return;
      const el = this.drawItem(it, x[k], y[k], fine);
      this.shown.set(k, el);
      nodes.append(el);
    });
    this.edges.forEach(([a, b], e) => {
      const r = this.bounds[e];
      if (r[0] > box[2] || r[1] > box[3] || r[2] < box[0] || r[3] < box[1]) return;
      // A long edge is a stub at both ends, until one asks about its nodes.
      if (loose[e]) edges.append(s("path", { d: stubs(routes[e]), class: "edge" }));
      const el = s("path", { d: smooth(routes[e]), class: loose[e] ? "edge loose" : "edge" });
      this.shownEdges.push([a, b, el]);
      edges.append(el);
    });
    this.nodeLayer.replaceChildren(nodes);
    this.edgeLayer.replaceChildren(edges);
    this.paint();
  }

  drawItem(it, x, y, fine) {
    const g = s("g", { transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, "data-item": it.k });
    const family = it.kind === "node" ? it.nodes[0].family : it.kind;
    it.classes = `item ${it.kind} f-${family}${it.changed ? (this.side === "before" ? " gone" : " fresh") : ""}`;
    if (it.kind === "block") g.append(s("rect", { class: "shadow", x: 4, y: 4, width: it.w, height: it.h, rx: 9 }));
    g.append(s("rect", { class: "body", width: it.w, height: it.h, rx: it.kind === "input" || it.kind === "output" ? 19 : 8 }));
    if (!fine) { g.append(s("rect", { class: "blob", width: it.w, height: it.h, rx: 8 })); return g; }
    if (it.kind === "node") g.append(s("rect", { class: "stripe", x: 0, y: 0, width: 5, height: it.h, rx: 2.5 }));
    const left = it.kind === "node" || it.kind === "block" ? 14 : it.w / 2;
    const anchor = left === 14 ? "start" : "middle";
    g.append(s("text", { class: "op", x: left, y: it.kind === "node" ? 18 : it.h / 2 - 3, "text-anchor": anchor }, it.label));
    g.append(s("text", { class: "type", x: left, y: it.kind === "node" ? 33 : it.h / 2 + 12, "text-anchor": anchor }, clip(it.type, 32)));
    if (it.badge) {
      const bw = 14 + it.badge.length * 7;
      g.append(s("rect", { class: "badge", x: it.w - bw - 6, y: 6, width: bw, height: 15, rx: 7.5 }), s("text", { class: "badge-text", x: it.w - bw / 2 - 6, y: 17, "text-anchor": "middle" }, it.badge));
    }
    if (it.kind === "block" && it.changed) {
      const text = `${this.side === "before" ? "−" : "+"}${it.changed}`;
      g.append(s("text", { class: "delta", x: it.w - 10, y: 20, "text-anchor": "end" }, text));
    }
    if (it.cost) g.append(s("rect", { class: "cost", x: 5, y: it.h - 4, width: Math.max(1, ((it.w - 10) * it.cost) / this.top), height: 2.5, rx: 1 }));
    const title = it.kind === "node" ? `${it.nodes[0].op}: ${it.nodes[0].type}\n${time(it.cost)} (estimate)` : it.kind === "block" ? `${it.block}\ndouble-click to open` : it.label;
    g.append(s("title", {}, title));
    return g;
  }

  /** Colours for what is chosen, under the pointer, or searched for. */
  paint() {
    const { hover, chosen, match } = this.marks;
    const has = (set, it) => it.nodes.some((n) => set.has(n.i));
    for (const [k, el] of this.shown || []) {
      const it = this.items[k];
      const is = { chosen: chosen.size > 0 && has(chosen, it), hover: hover.size > 0 && has(hover, it), match: match !== null && has(match, it) };
      const extra = Object.keys(is).filter((name) => is[name]).map((name) => ` ${name}`).join("");
      el.setAttribute("class", it.classes + (extra || (match ? " dim" : "")));
    }
    for (const [a, b, el] of this.shownEdges || []) {
      const lit = [a, b].some((k) => (hover.size && has(hover, this.items[k])) || (chosen.size && has(chosen, this.items[k])));
      el.classList.toggle("lit", lit);
    }
  }

  drawMap(view) {
    const map = this.map, ratio = window.devicePixelRatio || 1;
    const w = map.clientWidth, ht = map.clientHeight;
    if (!w || !ht) return;
    if (map.width !== Math.round(w * ratio) || map.height !== Math.round(ht * ratio)) { map.width = Math.round(w * ratio); map.height = Math.round(ht * ratio); }
    const c = map.getContext("2d");
    const color = (name) => ink(name);
    const mark = color(this.side === "before" ? "gone" : "fresh"), line = color("line"), accent = color("accent"), text = color("quiet");
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, w, ht);
    const sx = (w - 10) / this.layout.width, sy = ht / this.layout.height;
    const { hover, chosen, match } = this.marks;
    this.items.forEach((it, k) => {
      const lit = it.nodes.some((n) => chosen.has(n.i) || hover.has(n.i) || (match && match.has(n.i)));
      c.fillStyle = lit ? accent : it.changed ? mark : it.kind === "node" ? color(it.nodes[0].family) : it.kind === "block" ? text : line;
      c.globalAlpha = lit || it.changed ? 1 : 0.55;
      c.fillRect(5 + this.layout.x[k] * sx, this.layout.y[k] * sy, Math.max(2, it.w * sx), Math.max(lit ? 3 : 1, it.h * sy));
    });
    c.globalAlpha = 1;
    c.strokeStyle = accent;
    c.lineWidth = 1.5;
    c.strokeRect(1, Math.max(1, view[1] * sy), w - 2, Math.min(ht - 2, Math.max(4, (view[3] - view[1]) * sy)));
  }

  mark(kind, ids) {
    this.marks[kind] = ids;
    this.paint();
    const k = this.scale;
    this.drawMap([0, -this.ty / k, 0, (this.svg.clientHeight - this.ty) / k]);
  }
}
