"use strict";
(function () {
  const root = document.documentElement, button = document.getElementById("theme");
  const links = Array.from(document.querySelectorAll("a[href$='index.html']"));
  function set(dark) {
    root.dataset.theme = dark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(dark));
    // pages of file:// share no storage: the choice travels in the address
    links.forEach((a) => { a.hash = dark ? "dark" : "light"; });
  }
  button.addEventListener("click", () => set(root.dataset.theme !== "dark"));
  const given = /^#(dark|light)$/.exec(location.hash);
  set(given ? given[1] === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
})();
