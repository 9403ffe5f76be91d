// One map at a time: its picture is data, a byte p standing for largest * (p / 255)^4.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const state = { group: 0, head: 0, query: 0, map: null }; // `map`: parts of the largest

const short = (v) => (v === 0 ? "0" : v >= 0.001 && v < 1e5 ? v.toPrecision(3) : v.toExponential(1));
const label = (token) => {
  const image = data.image;
  if (data.labels && token < data.labels.length) return `${token} (id ${data.labels[token]})`;
  if (image && token >= image.extra) {
    const patch = token - image.extra;
    return `${token} (row ${Math.floor(patch / image.across)}, column ${patch % image.across})`;
  }
  return image ? `${token} (no patch)` : `${token}`;
};
const named = (first, step, count) => (step > 1 ? `${first} to ${Math.min(first + step, count) - 1}` : label(first));

async function pixels(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const rgba = context.getImageData(0, 0, image.width, image.height).data;
  return Float64Array.from({ length: image.width * image.height }, (_, i) => (rgba[4 * i] / 255) ** 4);
}

const chosen = () => data.groups[state.group].heads[state.head];
const row = (map, query) => {
  const from = Math.min(Math.floor(query / map.down), map.rows - 1) * map.columns;
  return Array.from(state.map.slice(from, from + map.columns), (v) => v * map.largest);
};

function fill(canvas, width, height, colour) {
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) picture.data.set(colour(i), 4 * i);
  context.putImageData(picture, 0, 0);
}

// White to dark blue.
const blue = (t) => [255 - 247 * t, 255 - 207 * t, 255 - 148 * t, 255];

function draw() {
  const map = chosen();
  const here = Math.min(Math.floor(state.query / map.down), map.rows - 1);
  fill(at("map"), map.columns, map.rows, (i) => blue(state.map[i] ** 0.5));
  at("row").style.top = `${(100 * here) / map.rows}%`;
  at("row").style.height = `${100 / map.rows}%`;
  at("map").style.aspectRatio = `${map.columns} / ${map.rows}`;
  const group = data.groups[state.group];
  at("map-name").textContent = `${group.name}${group.heads.length > 1 ? `, head ${map.name}` : ""}`;
  const shares = row(map, state.query);
  const largest = Math.max(...shares, Number.MIN_VALUE);
  at("query-name").textContent = named(state.query, 1, map.rows);
  at("taken").textContent = `What query ${named(here * map.down, map.down, map.rows * map.down)} takes`;
  at("query").value = state.query;
  overImage(map, shares);
  const cells = at("tokens").children;
  for (let i = 0; i < cells.length; i++) {
    const share = shares[Math.floor(i / map.across)] ?? 0;
    cells[i].firstChild.style.setProperty("--t", (0.85 * (share / largest) ** 0.7).toFixed(3));
    cells[i].title = `${label(i)} takes ${short(share)}`;
    cells[i].classList.toggle("chosen", i === state.query);
  }
  const order = shares.map((_, i) => i).sort((a, b) => shares[b] - shares[a] || a - b).slice(0, 8);
  at("largest").replaceChildren(...order.map((key) => {
    const line = document.createElement("tr");
    const [name, share] = [document.createElement("td"), document.createElement("td")];
    name.textContent = named(key * map.across, map.across, map.columns * map.across);
    share.textContent = short(shares[key]);
    share.className = "num";
    line.append(name, share);
    return line;
  }));
  document.querySelectorAll(".heads button").forEach((b) => {
    const is = b.dataset.kind === group.kind && +b.dataset.layer === group.layer && b.dataset.head === map.name;
    b.setAttribute("aria-pressed", is);
  });
}

// Over the image shares are seen among its patches: the class token would outshine them.
function overImage(map, shares) {
  const image = data.image;
  const fits = image && map.columns === data.tokens;
  at("image").hidden = at("image-axis").hidden = !fits;
  if (!fits) return;
  const patches = shares.slice(image.extra);
  const most = Math.max(...patches, Number.MIN_VALUE);
  fill(at("patches"), image.across, image.down, (i) => [214, 39, 40, 255 * (patches[i] / most) ** 0.7]);
}

async function choose() {
  const wanted = chosen();
  const found = await pixels(wanted.png);
  if (wanted !== chosen()) return;
  state.map = found;
  at("query").max = wanted.rows * wanted.down - 1;
  state.query = Math.min(state.query, wanted.rows * wanted.down - 1);
  draw();
  document.documentElement.dataset.ready = "true";
}

function options(select, list) {
  select.replaceChildren(...list.map((name, i) => {
    const option = document.createElement("option");
    [option.value, option.textContent] = [i, name];
    return option;
  }));
}

function group(i, head) {
  state.group = i;
  const heads = data.groups[i].heads;
  state.head = Math.max(0, heads.findIndex((h) => h.name === head));
  at("group").value = i;
  options(at("head"), heads.map((h) => h.name));
  at("head").value = state.head;
  choose();
}

const query = (q) => {
  if (q < 0 || q > +at("query").max) return;
  state.query = q;
  draw();
};
const place = (canvas, event, columns, rows) => {
  const box = canvas.getBoundingClientRect();
  const cell = (v, n) => Math.max(0, Math.min(n - 1, Math.floor(v * n)));
  return [cell((event.clientX - box.left) / box.width, columns), cell((event.clientY - box.top) / box.height, rows)];
};

options(at("group"), data.groups.map((g) => g.name));
at("group").addEventListener("change", (e) => group(+e.target.value, chosen().name));
at("head").addEventListener("change", (e) => { state.head = +e.target.value; choose(); });
at("query").addEventListener("input", (e) => query(+e.target.value));
at("map").addEventListener("click", (e) => query(place(e.target, e, chosen().columns, chosen().rows)[1] * chosen().down));
at("map").addEventListener("mousemove", (e) => {
  const map = chosen();
  const [key, row] = place(e.target, e, map.columns, map.rows);
  at("under-pointer").textContent = `${row * map.down} takes ${short(state.map[row * map.columns + key] * map.largest)} from ${key * map.across}.`;
});
at("map").addEventListener("keydown", (e) => {
  const step = { ArrowUp: -1, ArrowDown: 1 }[e.key];
  if (step) { e.preventDefault(); query(state.query + step); }
});
document.querySelectorAll(".heads button").forEach((b) => b.addEventListener("click", () => {
  const i = data.groups.findIndex((g) => g.kind === b.dataset.kind && g.layer === +b.dataset.layer);
  if (i >= 0) { group(i, b.dataset.head); window.scrollTo({ top: 0 }); }
}));

if (data.image) {
  at("own").src = data.image.png;
  at("patches").addEventListener("click", (e) => {
    const [x, y] = place(e.target, e, data.image.across, data.image.down);
    query(data.image.extra + y * data.image.across + x);
  });
} else {
  at("opacity").hidden = true;
  at("tokens").append(...Array.from({ length: Math.min(data.tokens, 2048) }, (_, i) => {
    const cell = document.createElement("button");
    cell.type = "button";
    cell.className = "cell f";
    cell.append(document.createElement("i"), data.labels ? data.labels[i] : i);
    cell.addEventListener("click", () => query(i));
    return cell;
  }));
}
const over = () => document.documentElement.style.setProperty("--over", at("over").value / 100);
at("over").addEventListener("input", over);
over();
state.query = data.query;
if (data.groups.length > 0) group(data.start, "mean");
