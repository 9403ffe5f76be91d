// The timeline: a bar for each kernel in the order in which they run, branches side by side on rows of their own.

/** Branches by the call with which the first begins: of each the first call, and that behind its last. */
const forks = new Map((DATA.compiled.branches || []).map((calls) => [calls[0][0], calls]));

/** Kernels with when they begin and on which row, `of` being how long each takes. `apart`: branches run at the same time. */
function placedKernels(of, apart) {
  const bars = [];
  let now = 0, rows = 1;
  /** The calls from one to another, one behind the other; gives when they end. */
  const line = (from, to, row, at) => {
    for (let i = from; i < to; i++) {
      const took = of(kernels[i]);
      bars.push({ kernel: kernels[i], row, at, took });
      at += took;
    }
    return at;
  };
  for (let i = 0; i < kernels.length;) {
    const fork = apart ? forks.get(i) : null;
    if (fork) {
      const begin = now;
      now = Math.max(...fork.map(([from, to], n) => line(from, to, n, begin)));
      rows = Math.max(rows, fork.length);
      i = fork[fork.length - 1][1];
    } else now = line(i, ++i, 0, now);
  }
  return { bars, rows, end: now };
}

/** What a kernel is to the eye: the kind of its most costly node. */
function kernelFamily(k) {
  const nodes = k.nodes.map((i) => stages[last].graph.nodes[i]);
  return nodes.reduce((most, n) => (most === null || n.cost > most.cost ? n : most), null)?.family || "other";
}

/** What is said where the pointer rests on a bar. */
function kernelTitle(k, took, whole, kind) {
  const names = k.sources.slice(0, 8).map((s) => S[s]);
  const more = k.sources.length - names.length;
  return [`${k.name} · call ${k.i}`, `${time(took)} ${kind} · ${share(took, whole)} of the whole`, ...names, ...(more > 0 ? [`and ${more} more`] : [])].join("\n");
}

/** How much the time is stretched beyond the width of the view, and where it is looked at; the same for what is drawn next. */
const stretch = { zoom: 1, left: 0, box: null, most: 1 };

/** Stretch the time by a factor about the middle, or a place, of the view; 0: the whole. */
function stretchTimeline(by, place) {
  const { box } = stretch;
  if (!box) return;
  const at = place ?? box.clientWidth / 2, was = stretch.zoom;
  stretch.zoom = by ? Math.min(2000, Math.max(1, was * by)) : 1;
  stretch.left = Math.max(0, ((box.scrollLeft + at) * stretch.zoom) / was - at);
  timelineShown();
}

/** What depends on how wide the view is, once it is there. */
function timelineShown() {
  const { box } = stretch;
  if (!box || !box.isConnected) return;
  const inner = box.firstElementChild, width = Math.max(1, box.clientWidth * stretch.zoom);
  inner.style.width = `${width}px`;
  // A tick every hundred pixels or so, at a round time.
  const rough = (stretch.most * 110) / width, ten = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(1, [1, 2, 5, 10].find((n) => n * ten >= rough) * ten);
  const timeAt = (x) => (x / width) * stretch.most, ticks = [];
  const until = Math.min(stretch.most, timeAt(stretch.left + box.clientWidth));
  for (let n = Math.floor(timeAt(stretch.left) / step); n * step <= until; n++) {
    ticks.push(h("span", { style: `left:${(((n * step) / stretch.most) * width).toFixed(1)}px` }, tickTime(n * step, step)));
  }
  inner.querySelector(".ticks").replaceChildren(...ticks);
  box.scrollLeft = stretch.left;
}

/** A time as exactly as ticks that far apart need it. */
function tickTime(ns, step) {
  const [unit, name] = step >= 1e9 ? [1e9, "s"] : step >= 1e5 ? [1e6, "ms"] : step >= 100 ? [1e3, "µs"] : [1, "ns"];
  return `${Number((ns / unit).toFixed(3))} ${name}`;
}

function timelineView() {
  stretch.box = null;
  if (DATA.compiled.refused !== undefined) return kernelsView();
  if (!kernels.length) return h("div", { class: "list" }, empty("There are no kernels."));
  const m = matcher(state.q);
  const together = forks.size > 0;
  const sum = (of) => kernels.reduce((all, k) => all + of(k), 0);
  const one = (name, kind, of, apart) => ({ name, kind, of, whole: sum(of), ...placedKernels(of, apart) });
  const lines = [one(together ? "Estimated, branches at the same time" : "Estimated", "estimated", (k) => k.cost, true)];
  if (measured) lines.push(one(together ? "Measured on one core, branches one after the other" : "Measured on one core", "measured", (k) => k.measured, false));
  const most = Math.max(1, ...lines.map((l) => l.end));
  const percent = (part) => `${((100 * part) / most).toFixed(5)}%`;
  const bar = (line) => ({ kernel: k, row, at, took }) => h("button", {
    class: ["span", `f-${kernelFamily(k)}`, state.kernel === k.i ? "chosen" : "", m && !m.event(k) ? "dim" : ""].join(" ").trim(),
    style: `left:${percent(at)};width:${percent(took)};top:${row * 30}px`, title: kernelTitle(k, took, line.whole, line.kind), "data-row": row,
    onclick: () => set({ kernel: state.kernel === k.i ? null : k.i, node: null }),
  }, k.name);
  const said = (line) => `${time(line.end)}${line.end < line.whole * 0.9995 ? ` · ${time(line.whole)} one after the other` : ""}`;
  const inner = h("div", { class: "timeline" }, h("div", { class: "ticks", "aria-hidden": "true" }),
    lines.map((line) => [h("h3", {}, line.name, " ", h("span", { class: "quiet num" }, said(line))), h("div", { class: "lanes", role: "group", "aria-label": line.name, style: `height:${line.rows * 30}px` }, line.bars.map(bar(line)))]));
  const box = h("div", { class: "timebox" }, inner);
  box.addEventListener("scroll", () => { if (box.scrollLeft !== stretch.left && box.isConnected) { stretch.left = box.scrollLeft; timelineShown(); } });
  box.addEventListener("wheel", (e) => {
    if (!e.ctrlKey && !e.metaKey) return;
    e.preventDefault();
    stretchTimeline(1.0015 ** -e.deltaY, e.clientX - box.getBoundingClientRect().left);
  }, { passive: false });
  Object.assign(stretch, { box, most });
  const zoom = (text, name, by) => h("button", { class: "icon", title: name, "aria-label": name, onclick: () => stretchTimeline(by) }, text);
  return h("div", { class: "list" },
    h("div", { class: "scope" }, h("div", { class: "zoom" }, zoom("−", "Shorter (-)", 1 / 1.5), zoom("+", "Longer (+)", 1.5), h("button", { class: "text", title: "Whole run (0)", onclick: () => stretchTimeline(0) }, "Whole")),
      h("span", { class: "quiet" }, `${many(kernels.length, "kernel")} in the order in which they run, each on one core${forks.size ? ` · ${many(forks.size, "fork")} into branches` : ""}${measured ? "" : " · --profile measures"}`)),
    box);
}
