"use strict";
(function () {
  const table = document.getElementById("worklist");
  if (!table) return;
  const body = table.tBodies[0], rows = Array.from(body.rows);
  const text = document.getElementById("find"), quality = document.getElementById("quality"), high = document.getElementById("high");
  const count = document.getElementById("count");

  function filter() {
    const wanted = text.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const ok = (!wanted || row.textContent.toLowerCase().includes(wanted)) &&
        (!quality.value || row.dataset.quality === quality.value) && (!high.checked || row.dataset.high === "true");
      row.hidden = !ok;
      if (ok) shown++;
    }
    count.textContent = shown + " of " + rows.length + " scans shown";
  }

  document.querySelectorAll("th[data-column] button").forEach(function (button) {
    button.addEventListener("click", function () {
      const head = button.parentElement, column = Number(head.dataset.column);
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.sort;
      rows.sort(function (a, b) {
        const x = value(a), y = value(b);
        const order = head.dataset.kind === "number" ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
        return down ? -order : order;
      });
      rows.forEach((row) => body.appendChild(row));
    });
  });
  [text, quality, high].forEach((e) => e.addEventListener("input", filter));
  filter();
})();
