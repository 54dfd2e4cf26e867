"use strict";
(function () {
  const byId = (id) => document.getElementById(id);
  const meta = JSON.parse(byId("meta").textContent);
  const viewer = byId("viewer"), plain = byId("plain"), marked = byId("marked");
  const slice = byId("slice"), opacity = byId("opacity"), threshold = byId("threshold");
  const W = meta.width, H = meta.height, N = meta.slices.length, AREA = W * H;
  // Okabe-Ito orange and blue, brightened for a dark ground: told apart by the colour-blind
  const COLOURS = [[255, 150, 30], [60, 170, 255]];
  let ct, map, level, width, current = -1;

  async function inflate(id) {
    const text = byId(id).textContent.trim();
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function decode(planes) {
    const count = N * AREA, values = new Int16Array(count);
    for (let start = 0; start < count; start += W) {
      let sum = 0;
      for (let i = start; i < start + W; i++) {
        sum = (sum + (planes[i] | (planes[count + i] << 8))) & 0xffff;
        values[i] = sum;
      }
    }
    return values;
  }

  function draw() {
    const n = Number(slice.value), base = n * AREA, low = level - width / 2;
    const over = Number(opacity.value) / 100, limit = Number(threshold.value), top = Math.max(limit * 2.5, limit + meta.step);
    const a = new ImageData(W, H), b = new ImageData(W, H);
    for (let i = 0; i < AREA; i++) {
      const grey = Math.max(0, Math.min(255, ((ct[base + i] - low) / width) * 255));
      const d = map[base + i] * meta.step, size = Math.abs(d), p = i * 4;
      a.data[p] = a.data[p + 1] = a.data[p + 2] = grey;
      a.data[p + 3] = b.data[p + 3] = 255;
      const w = size > limit && over > 0 ? over * (0.45 + 0.55 * Math.min(1, (size - limit) / (top - limit))) : 0;
      const c = COLOURS[d > 0 ? 0 : 1];
      for (let k = 0; k < 3; k++) b.data[p + k] = grey * (1 - w) + c[k] * w;
    }
    plain.getContext("2d").putImageData(a, 0, 0);
    marked.getContext("2d").putImageData(b, 0, 0);
    byId("slice-value").textContent = meta.slices[n] + " of " + meta.depth;
    slice.setAttribute("aria-valuetext", "slice " + meta.slices[n] + " of " + meta.depth);
    byId("opacity-value").textContent = opacity.value + " %";
    byId("threshold-value").textContent = Number(threshold.value).toFixed(meta.decimals) + " " + meta.unit;
    viewer.dataset.slice = meta.slices[n];
  }

  let waiting = false;
  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(function () { waiting = false; draw(); });
  }

  function go(n) {
    slice.value = Math.max(0, Math.min(N - 1, n));
    redraw();
  }
  const step = (by) => go(Number(slice.value) + by);

  const windows = Array.from(document.querySelectorAll("[data-window]"));
  function choose(button) {
    [level, width] = JSON.parse(button.dataset.window);
    windows.forEach((w) => w.setAttribute("aria-pressed", String(w === button)));
    viewer.dataset.window = button.dataset.name;
    redraw();
  }
  windows.forEach((w) => w.addEventListener("click", () => choose(w)));

  const findings = Array.from(document.querySelectorAll("[data-goto]"));
  function jump(n) {
    current = (n + findings.length) % findings.length;
    findings.forEach((f, i) => f.setAttribute("aria-current", String(i === current)));
    findings[current].scrollIntoView({ block: "nearest" });
    go(Number(findings[current].dataset.goto));
  }
  findings.forEach((f, i) => f.addEventListener("click", () => jump(i)));

  const single = byId("single"), hide = byId("hide");
  function toggle(button) {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    return on;
  }
  let kept = opacity.value;
  single.addEventListener("click", () => byId("panes").classList.toggle("single", toggle(single)));
  hide.addEventListener("click", function () {
    if (toggle(hide)) { kept = opacity.value; opacity.value = 0; } else { opacity.value = kept; }
    redraw();
  });
  byId("reset").addEventListener("click", function () {
    threshold.value = meta.threshold; opacity.value = 60; hide.setAttribute("aria-pressed", "false"); redraw();
  });

  [slice, opacity, threshold].forEach((e) => e.addEventListener("input", redraw));

  viewer.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.type === "range") return;
    const moves = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5, Home: -N, End: N };
    if (event.key in moves) step(moves[event.key]);
    else if (/^[1-9]$/.test(event.key) && windows[event.key - 1]) choose(windows[event.key - 1]);
    else if (event.key === "o") hide.click();
    else if (event.key === "s") single.click();
    else if (event.key === "n" && findings.length) jump(current + 1);
    else if (event.key === "b" && findings.length) jump(current < 0 ? -1 : current - 1);
    else return;
    event.preventDefault();
  });

  let turned = 0;
  function wheel(event) {
    if (event.ctrlKey) return;
    event.preventDefault();
    turned += event.deltaMode === 1 ? event.deltaY * 30 : event.deltaY;
    const notches = Math.trunc(turned / 60);
    if (notches) { turned -= notches * 60; step(-Math.sign(notches) * Math.min(3, Math.abs(notches) > 1 ? 1 : Math.abs(notches))); }
  }

  let touch = null;
  for (const canvas of [plain, marked]) {
    canvas.addEventListener("wheel", wheel, { passive: false });
    canvas.addEventListener("pointerdown", function (event) {
      if (event.pointerType !== "mouse") touch = { y: event.clientY, n: Number(slice.value) };
    });
    canvas.addEventListener("pointerup", () => { touch = null; });
    canvas.addEventListener("pointercancel", () => { touch = null; });
    canvas.addEventListener("pointermove", function (event) {
      if (touch) { go(touch.n + Math.round((touch.y - event.clientY) / 8)); return; }
      const box = canvas.getBoundingClientRect();
      const x = Math.floor(((event.clientX - box.left) / box.width) * W);
      const y = Math.floor(((event.clientY - box.top) / box.height) * H);
      if (!ct || x < 0 || y < 0 || x >= W || y >= H) return;
      const i = Number(slice.value) * AREA + y * W + x, d = map[i] * meta.step;
      byId("readout").textContent = ct[i] + " HU here; " + (d > 0 ? "+" : "") + d.toFixed(meta.decimals) + " " + meta.unit + " against the healthy model";
    });
    canvas.addEventListener("pointerleave", () => { byId("readout").textContent = ""; });
  }

  function start() {
    for (const canvas of [plain, marked]) { canvas.width = W; canvas.height = H; }
    document.querySelectorAll(".ruler").forEach((r) => { r.style.width = (50 / meta.pixel_mm / W) * 100 + "%"; });
    choose(windows[0]);
    slice.value = meta.first;
    draw();
    viewer.dataset.ready = "true";
    byId("wait").hidden = true;
    viewer.focus({ preventScroll: true });
  }

  if (typeof DecompressionStream === "undefined") {
    byId("wait").textContent = "This browser is too old for the viewer (it needs Chrome 80, Firefox 113, Safari 16.4 or newer). The NIfTI files beside this page open in 3D Slicer or ITK-SNAP.";
    return;
  }
  Promise.all([inflate("data-ct"), inflate("data-map")]).then(function (parts) {
    ct = decode(parts[0]);
    map = new Int8Array(parts[1].buffer);
    start();
  }).catch(function (error) {
    byId("wait").textContent = "The slices could not be read: " + error.message;
    throw error;
  });
})();
