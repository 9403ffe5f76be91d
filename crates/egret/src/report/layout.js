// Layered layout: longest-path layers, barycentre ordering, positions by isotonic regression. The same input gives the same output.

const LAYER_GAP = 30;
const ITEM_GAP = 20;
/** Edges over more layers than this are drawn straight, not led between the nodes. */
const LED_LAYERS = 24;

/**
 * items: [{w, h}], in topological order as far as there is one; edges: [[from, to]].
 * Returns {x, y (upper left corners), width, height, routes (points of each edge), loose (edges that are not led)}.
 */
function layoutGraph(items, edges) {
  const n = items.length;
  const preds = items.map(() => []), succs = items.map(() => []);
  for (const [a, b] of edges) if (a < b) { preds[b].push(a); succs[a].push(b); }
  const layer = new Array(n).fill(0);
  for (let v = 0; v < n; v++) for (const p of preds[v]) layer[v] = Math.max(layer[v], layer[p] + 1);
  // Inputs, and what comes from constants only, stand right before their first user.
  const fed = items.map((it) => it.kind === "input");
  for (let v = 0; v < n; v++) if (preds[v].some((p) => fed[p])) fed[v] = true;
  for (let v = n - 1; v >= 0; v--) {
    if ((!fed[v] || !preds[v].length) && succs[v].length) layer[v] = Math.min(...succs[v].map((s) => layer[s])) - 1;
  }
  // Vertices: the items, then points on the way of long edges, one for each source and layer.
  const vLayer = layer.slice(), vWidth = items.map((it) => it.w), up = items.map(() => []), down = items.map(() => []);
  const link = (a, b) => { if (!down[a].includes(b)) { down[a].push(b); up[b].push(a); } };
  const ways = new Map();
  const routeOf = edges.map(([a, b]) => {
    const span = layer[b] - layer[a];
    if (span < 1 || span > LED_LAYERS) return null;
    const way = [a];
    for (let l = layer[a] + 1; l < layer[b]; l++) {
      const id = `${a},${l}`;
      let v = ways.get(id);
      if (v === undefined) {
        v = vLayer.length;
        ways.set(id, v);
        vLayer.push(l); vWidth.push(4); up.push([]); down.push([]);
      }
      link(way[way.length - 1], v);
      way.push(v);
    }
    link(way[way.length - 1], b);
    way.push(b);
    return way;
  });
  const count = n ? Math.max(...layer) + 1 : 0;
  const layers = Array.from({ length: count }, () => []);
  vLayer.forEach((l, v) => layers[l].push(v));
  // Order within layers.
  const place = new Array(vLayer.length).fill(0);
  const renumber = (list) => list.forEach((v, i) => { place[v] = i; });
  layers.forEach(renumber);
  const sweep = (list, near) => {
    const keys = new Map(list.map((v) => [v, near[v].length ? near[v].reduce((s, u) => s + place[u], 0) / near[v].length : place[v]]));
    list.sort((a, b) => keys.get(a) - keys.get(b) || place[a] - place[b] || a - b);
    renumber(list);
  };
  for (let round = 0; round < 6; round++) {
    for (let l = 1; l < count; l++) sweep(layers[l], up);
    for (let l = count - 2; l >= 0; l--) sweep(layers[l], down);
  }
  for (let l = 1; l < count; l++) sweep(layers[l], up);
  // Positions of centres.
  const x = new Array(vLayer.length).fill(0);
  const apart = (a, b) => (vWidth[a] + vWidth[b]) / 2 + (a < n || b < n ? ITEM_GAP : 10);
  for (const list of layers) {
    let at = 0;
    list.forEach((v, i) => { at += i ? apart(list[i - 1], v) : 0; x[v] = at; });
    list.forEach((v) => { x[v] -= at / 2; });
  }
  const settle = (list, near) => {
    // Least squares under minimal distances: pools of neighbours that would overlap move together.
    const pools = [];
    let offset = 0;
    list.forEach((v, i) => {
      offset += i ? apart(list[i - 1], v) : 0;
      const wanted = near[v].length ? near[v].reduce((s, u) => s + x[u], 0) / near[v].length : x[v];
      let pool = { sum: (wanted - offset) * pull(v), weight: pull(v), members: [[v, offset]] };
      while (pools.length && pools[pools.length - 1].sum / pools[pools.length - 1].weight > pool.sum / pool.weight) {
        const before = pools.pop();
        pool = { sum: before.sum + pool.sum, weight: before.weight + pool.weight, members: before.members.concat(pool.members) };
      }
      pools.push(pool);
    });
    for (const p of pools) for (const [v, off] of p.members) x[v] = p.sum / p.weight + off;
  };
  const pull = (v) => (v < n ? 1 + Math.min(up[v].length + down[v].length, 4) / 4 : 3);
  for (let round = 0; round < 5; round++) {
    for (let l = 1; l < count; l++) settle(layers[l], up);
    for (let l = count - 2; l >= 0; l--) settle(layers[l], down);
  }
  for (let l = 1; l < count; l++) settle(layers[l], up);
  // Down the page.
  const tops = [], heights = [];
  let at = 24;
  for (const list of layers) {
    const height = Math.max(20, ...list.filter((v) => v < n).map((v) => items[v].h));
    tops.push(at); heights.push(height);
    at += height + LAYER_GAP;
  }
  let least = Infinity, most = -Infinity;
  for (let v = 0; v < vLayer.length; v++) { least = Math.min(least, x[v] - vWidth[v] / 2); most = Math.max(most, x[v] + vWidth[v] / 2); }
  const shift = 24 - (n ? least : 0);
  const middle = (v) => tops[vLayer[v]] + heights[vLayer[v]] / 2;
  const out = {
    x: items.map((it, v) => x[v] + shift - it.w / 2), y: items.map((it, v) => middle(v) - it.h / 2),
    width: n ? most - least + 48 : 0, height: at, loose: [],
  };
  out.routes = edges.map(([a, b], e) => {
    const from = [x[a] + shift, middle(a) + items[a].h / 2], to = [x[b] + shift, middle(b) - items[b].h / 2];
    out.loose.push(routeOf[e] === null);
    const between = (routeOf[e] || []).slice(1, -1).map((v) => [x[v] + shift, middle(v)]);
    return [from, ...between, to];
  });
  return out;
}

/** An SVG path through points, leaving and arriving downwards. */
function smooth(points) {
  let d = `M${points[0][0].toFixed(1)} ${points[0][1].toFixed(1)}`;
  for (let i = 1; i < points.length; i++) {
    const [x0, y0] = points[i - 1], [x1, y1] = points[i];
    const bend = (y1 - y0) / 2;
    d += `C${x0.toFixed(1)} ${(y0 + bend).toFixed(1)} ${x1.toFixed(1)} ${(y1 - bend).toFixed(1)} ${x1.toFixed(1)} ${y1.toFixed(1)}`;
  }
  return d;
}

/** The ends of an edge only. */
function stubs(points) {
  const [x0, y0] = points[0], [x1, y1] = points[points.length - 1];
  return `M${x0.toFixed(1)} ${y0.toFixed(1)}v9M${x1.toFixed(1)} ${(y1 - 9).toFixed(1)}v9`;
}
