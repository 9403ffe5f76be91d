"use strict";

/* How a digit is in the data that the network was trained on (MNIST): 28 by 28 pixels of ink from 0 to 1, the longer side of the digit 20 pixels, its centre of mass
   in the middle of pixel 14, lines nearly 3 pixels wide. */
const SIDE = 28, LONGER = 20, MIDDLE = 14.5, LINE = 2.8;
/* The drawing area's side, and the width of its pen, in its own units; the step of an arrow key. */
const PAD = 280, PEN = 20, STEP = 10;

const [pad, ink, pen, clear, seen, answer, bars, time] =
  ["pad", "ink", "pen", "clear", "seen", "answer", "bars", "time"].map((id) => document.getElementById(id));
const pixels = seen.getContext("2d", { willReadFrequently: true });

/* The network, as its module describes itself. */
async function load(file, name) {
  if (location.protocol === "file:") {
    throw new Error("a page that was opened as a file may not read the module: serve this folder (python3 -m http.server) and open http://localhost:8000");
  }
  const response = await fetch(file);
  if (!response.ok) throw new Error(`${file} is not there: egret compile writes it (README.md)`);
  const { instance } = await WebAssembly.instantiate(await response.arrayBuffer());
  const { memory, [`${name}_run`]: run, [`${name}_info`]: info, [`${name}_info_bytes`]: length } = instance.exports;
  const { inputs, outputs } = JSON.parse(new TextDecoder().decode(new Uint8Array(memory.buffer, info.value, length.value)));
  const floats = ({ at, bytes }) => new Float32Array(memory.buffer, at, bytes / 4);
  return { run, image: floats(inputs[0]), logits: floats(outputs.find((port) => port.name === "logits")) };
}

/* What is drawn, as the network wants it. */
function image() {
  const box = ink.getBBox();
  const scale = (LONGER - LINE) / Math.max(box.width, box.height, PAD / 5);
  const draw = (dx, dy) => {
    pixels.setTransform(1, 0, 0, 1, 0, 0);
    pixels.fillRect(0, 0, SIDE, SIDE);
    pixels.setTransform(scale, 0, 0, scale, dx - scale * (box.x + box.width / 2), dy - scale * (box.y + box.height / 2));
    pixels.lineWidth = LINE / scale;
    pixels.lineCap = pixels.lineJoin = "round";
    pixels.strokeStyle = "white";
    pixels.stroke(new Path2D(ink.getAttribute("d")));
    const { data } = pixels.getImageData(0, 0, SIDE, SIDE);
    return Float32Array.from({ length: SIDE * SIDE }, (_, i) => data[4 * i] / 255);
  };
  let [mass, x, y] = [0, 0, 0];
  draw(SIDE / 2, SIDE / 2).forEach((v, i) => {
    mass += v;
    x += v * (i % SIDE + 0.5);
    y += v * (Math.floor(i / SIDE) + 0.5);
  });
  return draw(SIDE / 2 + MIDDLE - x / mass, SIDE / 2 + MIDDLE - y / mass);
}

/* Probabilities of the digits, and the milliseconds of a run: clocks of pages are coarse, so the same run is repeated for a few of them. */
function recognise(net) {
  net.image.set(image());
  const start = performance.now();
  let runs = 0, now;
  do {
    if (net.run() !== 0) throw new Error("the network refused the image");
    runs += 1;
    now = performance.now();
  } while (now < start + 4);
  const largest = Math.max(...net.logits);
  const powers = Array.from(net.logits, (v) => Math.exp(v - largest));
  const sum = powers.reduce((a, b) => a + b);
  return { probabilities: powers.map((p) => p / sum), ms: (now - start) / runs, runs };
}

const rows = Array.from({ length: 10 }, (_, digit) => {
  const row = bars.insertRow();
  row.innerHTML = `<th scope="row">${digit}</th><td><div></div></td><td></td>`;
  return row;
});

function show(probabilities, said, took) {
  const best = probabilities ? probabilities.indexOf(Math.max(...probabilities)) : -1;
  rows.forEach((row, digit) => {
    const percent = probabilities ? (100 * probabilities[digit]).toFixed(1) : "";
    row.className = digit === best ? "best" : "";
    row.cells[1].firstChild.style.width = `${percent || 0}%`;
    row.cells[2].textContent = percent && `${percent} %`;
  });
  answer.value = best < 0 ? said : `This is a ${best}`;
  time.textContent = took;
}

function start(net) {
  let strokes = "", down = false, at = [PAD / 2, PAD / 2];

  const update = () => {
    ink.setAttribute("d", strokes);
    if (!strokes) {
      pixels.setTransform(1, 0, 0, 1, 0, 0);
      pixels.fillRect(0, 0, SIDE, SIDE);
      return show(null, "Draw a digit", "");
    }
    const { probabilities, ms, runs } = recognise(net);
    show(probabilities, "", `${ms.toFixed(3)} ms a run, the mean of ${runs}`);
  };
  const point = ([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  /* A stroke begins with a line of next to no length, which is a dot. */
  const begin = () => { strokes += `M${point(at)}l.1 0`; };
  const line = (to) => { at = to; strokes += `L${point(at)}`; };
  const wipe = () => { strokes = ""; down = false; pen.classList.remove("down"); update(); };

  const where = (event) => {
    const { left, top, width, height } = pad.getBoundingClientRect();
    return [(event.clientX - left) / width * PAD, (event.clientY - top) / height * PAD];
  };
  let pointer = null;
  pad.onpointerdown = (event) => {
    if (pointer !== null || event.button !== 0) return;
    pointer = event.pointerId;
    pad.setPointerCapture(pointer);
    at = where(event);
    begin();
    update();
  };
  pad.onpointermove = (event) => {
    if (event.pointerId !== pointer) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) line(where(each));
    update();
  };
  pad.onpointerup = pad.onpointercancel = (event) => {
    if (event.pointerId === pointer) pointer = null;
  };

  const arrows = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
  pad.onkeydown = (event) => {
    const by = arrows[event.key];
    if (by) {
      at = at.map((v, i) => Math.min(PAD, Math.max(0, v + by[i])));
      if (down) line(at);
    } else if (event.key === " ") {
      down = !down;
      pen.classList.toggle("down", down);
      if (down) begin();
    } else if (event.key === "Escape") {
      wipe();
    } else {
      return;
    }
    event.preventDefault();
    pen.setAttribute("cx", at[0]);
    pen.setAttribute("cy", at[1]);
    update();
  };
  clear.onclick = wipe;
  pen.setAttribute("cx", at[0]);
  pen.setAttribute("cy", at[1]);
  update();
}

load("build/digits.wasm", "digits").then(start).catch((error) => show(null, `This does not work: ${error.message}.`, ""));
