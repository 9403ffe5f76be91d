// The lists: rewrites by rule, what was not done and why, kernels.

/** How many entries a group shows before it is asked for more. */
const SOME = 40;

/** Sources in few words: the folder that they share, then their own names. */
function sourcesLine(sources) {
  const dir = commonDir(sources);
  const leaves = new Map();
  for (const id of sources) {
    const p = sourceParts(id);
    const rest = [...p.dir.slice(dir.length), p.leaf].join("/");
    leaves.set(rest, (leaves.get(rest) || 0) + 1);
  }
  const names = [...leaves.keys()];
  const shown = names.slice(0, 14).join(", ") + (names.length > 14 ? `, and ${names.length - 14} more` : "");
  return h("span", { class: "sources" }, dir.length ? h("b", {}, dir.join("/")) : null, dir.length ? " " : "", shown);
}

/** Fields that this page does not know by name, as they are. */
function extras(event, known) {
  const rows = Object.entries(event).filter(([k, v]) => !known.has(k) && v !== null && v !== "" && !(Array.isArray(v) && !v.length));
  if (!rows.length) return null;
  const show = (v) => (typeof v === "object" ? JSON.stringify(v, null, 1) : String(v));
  const small = rows.every(([, v]) => typeof v !== "object" && String(v).length < 60);
  const list = h("dl", { class: "extras" }, rows.map(([k, v]) => [h("dt", {}, k.replaceAll("_", " ")), h("dd", {}, typeof v === "object" ? h("pre", {}, steps(v) || show(v)) : show(v))]));
  return small ? list : h("details", { class: "more" }, h("summary", {}, rows.map(([k, v]) => `${k.replaceAll("_", " ")}${Array.isArray(v) ? ` (${v.length})` : ""}`).join(", ")), list);
}

/** A list of flat objects, one on a line. */
function steps(value) {
  if (!Array.isArray(value)) return null;
  return value.map((v, i) => `${i + 1}. ${v && typeof v === "object" ? Object.entries(v).map(([k, x]) => `${k}: ${typeof x === "object" ? JSON.stringify(x) : x}`).join("   ") : v}`).join("\n");
}

const REWRITE_FIELDS = new Set(["id", "event", "pass", "rule", "place", "sources", "before", "after", "conditions"]);
const MISSED_FIELDS = new Set(["id", "event", "pass", "rule", "place", "sources", "why", "reason"]);
const CHOICE_FIELDS = new Set(["id", "event", "what", "subject", "sources", "chosen", "alternatives"]);

function ruleText(e) {
  if (!e.before && !e.after) return null;
  // `if guards tier`
  const [, guards, tier] = (e.conditions || "").match(/^(?:if\s+([^]*?))?\s*(exact|reassoc|(?:approx|lossy)\b.*)?$/) || [];
  return h("div", { class: "rule-text" }, h("code", {}, term(e.before)), h("span", { class: "arrow", "aria-label": "becomes" }, "⇒"), h("code", {}, term(e.after)),
    tier ? h("span", { class: `chip tier-${tier.split(" ")[0]}` }, tier) : null, guards ? h("div", { class: "guards" }, h("b", {}, "if "), h("code", {}, term(guards))) : null);
}
/** A term of the rule language with its operations, variables and attributes told apart. */
function term(text) {
  return (text.match(/\(\s*[a-z_0-9]+|\?[A-Za-z_0-9]+|[a-z_]+=|[^(?a-z]+|\(|\?|[a-z_0-9]+/g) || []).map((t) => {
    if (/^\(\s*[a-z]/.test(t)) return ["(", h("i", { class: "t-op" }, t.slice(1))];
    if (/^\?[A-Za-z]/.test(t)) return h("i", { class: "t-var" }, t);
    if (/=$/.test(t) && /^[a-z]/.test(t)) return h("i", { class: "t-attr" }, t);
    return t;
  });
}

/** Events of kinds that this page does not know, as tables. */
function otherTables(list) {
  return groups(list, (e) => e.event).map((g) => {
    const hidden = new Set(["id", "event", "pass"]);
    const keys = [...new Set(g.flatMap((e) => Object.keys(e)))].filter((k) => !hidden.has(k));
    const cell = (k, v) => (k === "sources" ? sourcesLine(v || []) : v === undefined || v === null ? "" : typeof v === "object" ? JSON.stringify(v) : typeof v === "number" ? v.toLocaleString("en") : String(v));
    return section(g[0].event.replaceAll("_", " "), h("div", { class: "wide" }, h("table", { class: "other" }, h("thead", {}, h("tr", {}, keys.map((k) => h("th", {}, k.replaceAll("_", " "))))),
      h("tbody", {}, g.slice(0, 200).map((e) => h("tr", {}, keys.map((k) => h("td", { class: typeof e[k] === "number" ? "num" : null }, cell(k, e[k])))))))));
  });
}

function groups(list, keyOf) {
  const by = new Map();
  for (const e of list) {
    const key = keyOf(e);
    if (!by.has(key)) by.set(key, []);
    by.get(key).push(e);
  }
  const out = [...by.values()].sort((a, b) => b.length - a.length || a[0].id - b[0].id);
  out.forEach((group) => { group.fewGroups = out.length <= 3; });
  return out;
}

/** Entries of a group, some at first. */
function entries(list, row) {
  const ul = h("ul", { class: "entries" });
  let shown = 0;
  const more = () => {
    const next = list.slice(shown, shown + (shown ? 400 : SOME));
    ul.querySelector(".show-more")?.remove();
    ul.append(...next.map((e) => h("li", {}, row(e))));
    shown += next.length;
    if (shown < list.length) ul.append(h("li", { class: "show-more" }, h("button", { class: "link", onclick: more }, `Show ${list.length - shown} more`)));
  };
  more();
  return ul;
}

/** Filter by pass, above a list. */
function scope(what, count) {
  const choose = (all) => () => set({ all });
  return h("div", { class: "scope" },
    h("div", { class: "segments", role: "group", "aria-label": "Passes" },
      h("button", { "aria-pressed": String(!!state.all), onclick: choose(true) }, "All passes"),
      h("button", { "aria-pressed": String(!state.all), onclick: choose(false) }, `Only ${stages[state.pass].name}`)),
    state.tab === "rewrites" && proofSteps.length ? h("div", { class: "segments", role: "group", "aria-label": "Kind" },
      h("button", { "aria-pressed": String(!state.steps), title: "What the new graph rests on", onclick: () => set({ steps: false }) }, "Rewrites"),
      h("button", { "aria-pressed": String(!!state.steps), title: "Every step between the graph before and after, with its terms", onclick: () => set({ steps: true }) }, "Proof steps")) : null,
    h("span", { class: "quiet" }, `${count.toLocaleString("en")} ${what}`));
}

const inScope = (e) => state.all || e.pass === stages[state.pass].name || (state.pass === last && stageOf(e.pass) === last && !stages.some((st) => st.name === e.pass));

/** What a term of a proof looks like, before and after a step. */
const stepText = (e) => h("div", { class: "rule-text step" }, h("code", {}, operations(e.before)), h("span", { class: "arrow", "aria-label": "becomes" }, "⇒"), h("code", {}, operations(e.after)));
/** `add(mul(..), 1)` with its operations told apart. */
const operations = (text) => (text.match(/[a-z_0-9]+(?=\()|[^a-z]+|[a-z_0-9]+/g) || []).reduce((out, t, i, all) => [...out, /^[a-z]/.test(t) && (all[i + 1] || "")[0] === "(" ? h("i", { class: "t-op" }, t) : t], []);

const STEP_FIELDS = new Set(["id", "n", "pass", "rule", "place", "sources", "before", "after"]);

function stepsView() {
  const m = matcher(state.q);
  const list = proofSteps.filter((e) => inScope(e) && (!m || m.event(e)));
  const row = (e) => h("button", { class: "entry", onclick: () => goTo(e) }, h("span", { class: "chip" }, `step ${e.n}`), sourcesLine(e.sources), stepText(e), extras(e, STEP_FIELDS));
  return [list.length ? groups(list, (e) => `${e.pass}\n${e.rule}`).map((g) => card(g, "step", row, null)) : empty("No pass has a proof with such steps.")];
}

/** The story: what was fused into what and what could still be gained, both ranked, repeated blocks folded. */
const STORY = { patterns: [], gains: [], ...DATA.story };
const placeOf = new Map(S.map((s, i) => [s, i]));
const storySources = (x) => x.sources.map((s) => placeOf.get(s)).filter((i) => i !== undefined);
const inStory = (x, query) => { const q = query.trim().toLowerCase(); return !q || [x.what, x.reason || "", ...x.places, ...Object.keys(x.rules || {})].some((t) => t.toLowerCase().includes(q)); };
const placesLine = (places) => h("span", { class: "sources" }, places.slice(0, 3).join(", "), places.length > 3 ? `, and ${places.length - 3} more` : "");

function patternsView() {
  const list = STORY.patterns.filter((p) => inStory(p, state.q));
  if (!list.length) return null;
  const saved = (ns) => (ns ? `${ns < 0 ? "−" : ""}${time(Math.abs(ns))}` : "—");
  return section("What was fused into what", h("div", { class: "wide" }, h("table", { class: "other patterns" },
    h("thead", {}, h("tr", {}, ["", "saves", "made of", "where", "rules"].map((t) => h("th", {}, t)))),
    h("tbody", {}, list.map((p) => h("tr", { class: "pattern" }, h("td", {}, h("button", { class: "link strong", onclick: () => goTo({ pass: stages[last].name, sources: storySources(p) }) }, `${p.what} ×${p.count}`)),
      h("td", { class: "num" }, saved(p.saved)), h("td", {}, p.from || "—"), h("td", {}, placesLine(p.places)), h("td", {}, Object.keys(p.rules).join(", "))))))));
}

function gainsView() {
  const list = STORY.gains.filter((g) => inStory(g, state.q));
  if (!list.length) return null;
  const row = (g) => h("div", { class: "event gain" }, h("button", { class: "link strong", onclick: () => goTo({ pass: stages[last].name, sources: storySources(g) }) }, `${g.what} ×${g.count}`),
    h("span", { class: "chip" }, `${g.bound ? "up to " : ""}${time(g.ns)} · ${share(g.ns, stages[last].graph.cost)}`), " ", placesLine(g.places), h("p", {}, g.reason), h("p", { class: "quiet" }, g.advice));
  const told = list.filter((g) => g.told), small = list.filter((g) => !g.told);
  return section("What could still be gained", told.length ? told.map(row) : h("p", { class: "quiet" }, "Nothing above one percent of the time."),
    small.length ? h("details", { class: "more" }, h("summary", {}, many(small.length, "smaller remark")), small.map(row)) : null);
}

function rewritesView() {
  if (proofSteps.length && state.steps) {
    return h("div", { class: "list" }, scope("steps", proofSteps.filter(inScope).length), stepsView());
  }
  const m = matcher(state.q);
  const list = rewrites.filter((e) => inScope(e) && (!m || m.event(e)));
  const row = (e) => h("button", { class: "entry", onclick: () => goTo(e) }, h("span", { class: "chip" }, many(e.sources.length, "ONNX node")), sourcesLine(e.sources), extras(e, REWRITE_FIELDS));
  return h("div", { class: "list" }, patternsView(), scope(list.length === 1 ? "rewrite" : "rewrites", list.length),
    list.length ? groups(list, (e) => `${e.pass}\n${e.rule}`).map((g) => card(g, "rewrite", row, ruleText(g[0])))
      : empty(m ? "No rewrite matches the search." : `No rule changed anything ${state.all ? "" : `in ${stages[state.pass].name}`}. What a pass does in code shows in the graph.`));
}

function card(group, kind, row, head) {
  const e = group[0];
  const stage = stages[stageOf(e.pass)];
  return h("details", { class: `card ${kind}`, open: group.fewGroups || !!state.q },
    h("summary", {}, h("span", { class: "count" }, `${group.length}×`), h("b", { class: "rule" }, e.rule), h("span", { class: "chip pass" }, stage && stage.name === e.pass ? e.pass : e.pass),
      e.place ? h("span", { class: "place" }, e.place) : null, head),
    entries(group, row));
}

/** A reason without the names of nodes: what many reasons have in common. */
const gist = (reason) => reason.replace(/ \([A-Za-z]\w*:[^()]*\)/g, "");

const WHY = { guard: "a condition does not hold", cost: "it would cost more", tier: "its tier is not allowed", near_match: "it nearly matches", failed: "it cannot be built", budget: "its error is over the budget", unknown: "not said" };

function missedView() {
  const m = matcher(state.q);
  const list = missed.filter((e) => inScope(e) && (!m || m.event(e)));
  const row = (e) => h("button", { class: "entry", onclick: () => goTo(e) }, h("span", { class: "reason" }, e.reason), sourcesLine(e.sources), extras(e, MISSED_FIELDS));
  const limitsShown = limits.filter(inScope);
  return h("div", { class: "list" }, gainsView(), scope("not done", list.length),
    limitsShown.length ? h("div", { class: "note warn" }, h("b", {}, "A limit was hit: "), limitsShown.map((l) => `${l.limit} = ${l.value.toLocaleString("en")} in ${l.pass}`).join(", "), ". What follows may be worse than it could be.") : null,
    list.length ? groups(list, (e) => `${e.pass}\n${e.rule}\n${e.why}\n${gist(e.reason)}`).map((g) => card(g, "missed", row, [h("span", { class: `why why-${g[0].why}` }, WHY[g[0].why] || g[0].why), h("p", { class: "gist" }, gist(g[0].reason))]))
      : empty(m ? "Nothing that matches the search was left undone." : "No rule that nearly applied was left out."));
}

function kernelsView() {
  if (DATA.compiled.refused !== undefined) return h("div", { class: "list" }, h("div", { class: "note warn" }, h("b", {}, "There are no kernels. "), h("pre", {}, DATA.compiled.refused)));
  const m = matcher(state.q);
  let list = kernels.filter((k) => !m || m.event(k));
  if (state.sort !== "order") list = [...list].sort((a, b) => weight(b) - weight(a) || a.i - b.i);
  const sum = (of) => kernels.reduce((all, k) => all + of(k), 0), total = sum(weight), estimated = sum((k) => k.cost);
  // Both kinds of time on one scale, so that they can be compared.
  const most = kernels.reduce((x, k) => Math.max(x, k.cost, k.measured || 0), 1);
  const timeCell = (value, whole, kind) => h("td", { class: "bar-cell" }, bar(value / most, kind), h("span", { class: "num" }, `${time(value)} · ${share(value, whole)}`));
  const by = (sort, text) => h("button", { "aria-pressed": String((state.sort || "cost") === sort), onclick: () => set({ sort }) }, text);
  const row = (k) => h("tr", { tabindex: 0, id: `kernel-${k.i}`, class: state.kernel === k.i ? "chosen" : null, onclick: () => set({ kernel: k.i, node: null }), onkeydown: (e) => { if (e.key === "Enter") set({ kernel: k.i, node: null }); } },
    h("td", { class: "num" }, k.i), h("td", {}, h("b", {}, k.name)), h("td", { class: "num" }, k.tasks ?? ""),
    measured ? timeCell(k.measured, total, "measured") : null, timeCell(k.cost, estimated, "cost"), h("td", {}, k.sources.length ? sourcesLine(k.sources) : "—"));
  const kinds = groups(kernels, (k) => k.name).map((g) => ({ name: g[0].name, count: g.length, cost: g.reduce((all, k) => all + weight(k), 0) })).sort((a, b) => b.cost - a.cost || (a.name < b.name ? -1 : 1));
  const inks = ["contraction", "elementwise", "reduction", "movement", "gone", "fresh", "accent"];
  const shown = kinds.slice(0, inks.length), rest = total - shown.reduce((sum, k) => sum + k.cost, 0);
  return h("div", { class: "list" },
    h("div", { class: "share", role: "img", "aria-label": `${measured ? "Measured" : "Estimated"} time by kind of kernel` }, shown.map((k, i) => h("span", { style: `flex:${(k.cost / total).toFixed(5)} 0 0;background:var(--${inks[i]})`, title: `${k.name}: ${time(k.cost)}` })), h("span", { style: `flex:${Math.max(0, rest / total).toFixed(5)} 0 0;background:var(--other)` })),
    h("ul", { class: "share-legend" }, shown.filter((k) => k.cost > 0.002 * total).map((k, i) => h("li", {}, h("button", { class: "link plain", onclick: () => set({ q: k.name }) }, h("span", { class: "dot", style: `background:var(--${inks[i]})` }), h("b", {}, k.name), ` ${k.count}× · ${share(k.cost, total)}`))), rest > 0.002 * total ? h("li", { class: "quiet" }, `others ${share(rest, total)}`) : null),
    h("div", { class: "scope" }, h("div", { class: "segments", role: "group", "aria-label": "Order" }, by("cost", "Most costly first"), by("order", "As they run")),
      h("span", { class: "quiet" }, `${many(list.length, "kernel")} · ${bytes(DATA.compiled.arena_bytes)} of arena · ${bytes(DATA.compiled.weights_bytes)} of weights${measured ? ` · ${time(total)} measured on one core, ${time(estimated)} estimated` : ` · ${time(estimated)} estimated`}`)),
    h("table", { class: "kernels" }, h("thead", {}, h("tr", {}, ["#", "Kernel", "Tasks", measured ? "Measured time" : null, "Estimated time", "ONNX nodes"].filter(Boolean).map((t) => h("th", {}, t)))), h("tbody", {}, list.map(row))));
}

const bytes = (n) => (n < 1024 ? `${n} B` : n < 1 << 20 ? `${(n / 1024).toFixed(1)} KB` : `${(n / (1 << 20)).toFixed(1)} MB`);
const empty = (text) => h("p", { class: "empty" }, text);
const bar = (part, kind) => h("span", { class: `bar ${kind}` }, h("span", { style: `width:${(100 * Math.min(1, Math.max(0, part))).toFixed(2)}%` }));
