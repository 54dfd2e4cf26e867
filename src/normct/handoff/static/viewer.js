"use strict";
(function () {
  const byId = (id) => document.getElementById(id);
  const meta = JSON.parse(byId("meta").textContent);
  const viewer = byId("viewer"), plain = byId("plain"), marked = byId("marked");
  const slice = byId("slice"), opacity = byId("opacity"), threshold = byId("threshold");
  const W = meta.width, H = meta.height, N = meta.slices.length, AREA = W * H;
  // Okabe-Ito orange and blue, brightened for a dark ground: told apart by the colour-blind
  const COLOURS = [[255, 150, 30], [60, 170, 255]];
  const RING = "rgb(255,235,90)";
  const healthy = byId("healthy"), canvases = [plain, marked].concat(healthy ? [healthy] : []);
  let ct, map, expected, level, width, current = -1, ringed = meta.rings.length ? 0 : -1;

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

  function decodeBytes(bytes) {
    for (let start = 0; start < bytes.length; start += W) {
      let sum = 0;
      for (let i = start; i < start + W; i++) bytes[i] = sum = (sum + bytes[i]) & 0xff;
    }
    return bytes;
  }

  // what a healthy scan gets at the threshold shown: counted on a ladder of thresholds, linear between them
  function falseFindings(limit) {
    const h = meta.healthy;
    if (!h) return "";
    const f = limit / meta.threshold, last = h.factors.length - 1;
    if (!(f >= h.factors[0] - 1e-6 && f <= h.factors[last] + 1e-6)) return "Not counted how many findings a healthy scan gets at this threshold.";
    let k = 0;
    while (k < last - 1 && f > h.factors[k + 1]) k++;
    const share = Math.min(1, Math.max(0, (f - h.factors[k]) / (h.factors[k + 1] - h.factors[k])));
    const count = h.mean[k] + share * (h.mean[k + 1] - h.mean[k]);
    return "A healthy scan gets about " + (count < 10 ? count.toFixed(1) : count.toFixed(0)) + " findings of " + h.size_ml + " mL or more at this threshold (1 mm slices).";
  }

  // where the levels that point to a slice stand among healthy people; the highest of them is told
  function standing(n) {
    let best = null;
    for (const [view, below, of] of meta.levels) {
      if (view === n && of && (!best || below / of > best[0] / best[1])) best = [below, of];
    }
    if (!best) return "No level of the head has its most unusual place in this slice.";
    const [below, of] = best;
    const who = of === 1 ? "the one healthy person" : below === of ? "all " + of + " healthy people" : below + " of " + of + " healthy people";
    return "Level of the head here: scores " + (of === 1 && !below ? "not " : "") + "higher than that of " + who + ".";
  }

  const columns = Array.from(document.querySelectorAll("[data-view]"));
  columns.forEach((c) => c.addEventListener("click", () => go(Number(c.dataset.view))));

  function ring(canvas, n) {
    const r = meta.rings[ringed];
    if (!r || n < r.from || n > r.to || r.peak <= Number(threshold.value)) return;
    const g = canvas.getContext("2d");
    g.lineWidth = Math.max(1, W / 220); g.strokeStyle = RING; g.setLineDash([4, 3]);
    g.beginPath(); g.arc(r.x + 0.5, r.y + 0.5, r.r, 0, 2 * Math.PI); g.stroke();
  }

  function draw() {
    const n = Number(slice.value), base = n * AREA, low = level - width / 2;
    const over = Number(opacity.value) / 100, limit = Number(threshold.value), top = Math.max(limit * 2, limit + meta.step);
    const a = new ImageData(W, H), b = new ImageData(W, H), c = new ImageData(W, H);
    const sign = (i) => { const d = map[i] * meta.step; return d > limit ? 1 : d < -limit ? -1 : 0; };
    for (let i = 0; i < AREA; i++) {
      const at = base + i, p = i * 4, x = i % W, s = over > 0 ? sign(at) : 0;
      const grey = Math.max(0, Math.min(255, ((ct[at] - low) / width) * 255));
      a.data[p] = a.data[p + 1] = a.data[p + 2] = grey;
      a.data[p + 3] = b.data[p + 3] = c.data[p + 3] = 255;
      let w = 0;
      if (s) {
        // the outline keeps its full colour: a thin fill over white bone or blood is hard to see
        const edge = x === 0 || x === W - 1 || i < W || i >= AREA - W ||
          sign(at - 1) !== s || sign(at + 1) !== s || sign(at - W) !== s || sign(at + W) !== s;
        w = edge ? Math.min(1, over + 0.35) : over * (0.6 + 0.4 * Math.min(1, (Math.abs(map[at]) * meta.step - limit) / (top - limit)));
      }
      const colour = COLOURS[s > 0 ? 0 : 1];
      for (let k = 0; k < 3; k++) b.data[p + k] = grey * (1 - w) + colour[k] * w;
      if (expected) {
        const e = expected[at];
        const g = e ? Math.max(0, Math.min(255, ((meta.expected.low + (e - 1) * meta.expected.step - low) / width) * 255)) : grey * 0.45;
        c.data[p] = c.data[p + 1] = c.data[p + 2] = g;
      }
    }
    plain.getContext("2d").putImageData(a, 0, 0);
    marked.getContext("2d").putImageData(b, 0, 0);
    if (healthy) healthy.getContext("2d").putImageData(c, 0, 0);
    if (over > 0) ring(marked, n);
    byId("false").textContent = falseFindings(limit);
    byId("slice-value").textContent = meta.slices[n] + " of " + meta.depth;
    const rank = byId("level");
    if (rank) {
      rank.textContent = standing(n);
      columns.forEach((c) => c.classList.toggle("here", Number(c.dataset.view) === n));
    }
    slice.setAttribute("aria-valuetext", "slice " + meta.slices[n] + " of " + meta.depth + (rank ? ". " + standing(n) : ""));
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
    ringed = Number(findings[current].dataset.goto);
    go(meta.rings[ringed].go);
  }
  findings.forEach((f, i) => f.addEventListener("click", () => jump(i)));

  const layout = byId("layout"), hide = byId("hide");
  const shown = healthy ? [3, 1, 2] : [2, 1];
  let arranged = 0;
  function arrange() {
    byId("panes").className = "panes show" + shown[arranged];
    byId("layout-value").textContent = shown[arranged];
    viewer.dataset.pictures = shown[arranged];
  }
  function toggle(button) {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    return on;
  }
  let kept = opacity.value;
  layout.addEventListener("click", function () { arranged = (arranged + 1) % shown.length; arrange(); });
  hide.addEventListener("click", function () {
    if (toggle(hide)) { kept = opacity.value; opacity.value = 0; } else { opacity.value = kept; }
    redraw();
  });
  byId("reset").addEventListener("click", function () {
    threshold.value = meta.threshold; opacity.value = 70; hide.setAttribute("aria-pressed", "false"); redraw();
  });

  [slice, opacity, threshold].forEach((e) => e.addEventListener("input", redraw));

  viewer.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.type === "range") return;
    const moves = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5, Home: -N, End: N };
    if (event.key in moves) step(moves[event.key]);
    else if (/^[1-9]$/.test(event.key) && windows[event.key - 1]) choose(windows[event.key - 1]);
    else if (event.key === "o") hide.click();
    else if (event.key === "s") layout.click();
    else if (event.key === "d") byId("theme").click();
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
  for (const canvas of canvases) {
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
      byId("readout").textContent = ct[i] + " HU here; " + (Math.abs(map[i]) === 127 ? "beyond " : "") + (d > 0 ? "+" : "") + d.toFixed(meta.decimals) + " " + meta.unit + " against the healthy model";
    });
    canvas.addEventListener("pointerleave", () => { byId("readout").textContent = ""; });
  }

  function start() {
    for (const canvas of canvases) { canvas.width = W; canvas.height = H; }
    arrange();
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
  Promise.all(["data-ct", "data-map"].concat(healthy ? ["data-expected"] : []).map(inflate)).then(function (parts) {
    ct = decode(parts[0]);
    map = new Int8Array(parts[1].buffer);
    expected = parts[2] && decodeBytes(parts[2]);
    start();
  }).catch(function (error) {
    byId("wait").textContent = "The slices could not be read: " + error.message;
    throw error;
  });
})();
