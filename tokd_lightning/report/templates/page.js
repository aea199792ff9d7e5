"use strict";
(() => {
  const page = JSON.parse(document.getElementById("cells").textContent);
  const dialog = document.querySelector("dialog");
  const inside = dialog.querySelector(".in");

  const make = (name, text, attributes = {}) => {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) element.textContent = text;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  const table = (heads, rows, joined = false) => {
    const box = make("div", null, { class: "scroll", tabindex: "0" });
    const whole = make("table");
    const head = make("thead").appendChild(make("tr"));
    for (const text of heads) head.append(make("th", text, { scope: "col" }));
    const body = make("tbody");
    for (const [name, ...values] of rows) {
      const row = make("tr");
      row.append(make("th", name, { scope: "row" }));
      const same = values.length > 1 && values.every((value) => value === values[0]) && joined;
      for (const value of same ? values.slice(0, 1) : values) {
        const hash = /^[0-9a-f]{16,}\+?$/.test(value ?? "");
        const cell = make("td", hash ? value.slice(0, 12) : value ?? "–");
        if (hash) { cell.className = "hash"; cell.title = value; }
        else if ((value ?? "").length > 30) cell.className = "long";
        if (same) { cell.colSpan = values.length; cell.className += " same"; }
        row.append(cell);
      }
      body.append(row);
    }
    whole.append(head.parentNode, body);
    box.append(whole);
    return box;
  };

  const copy = async (text, button) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", text);
      dialog.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };

  const command = (text) => {
    const box = make("div", null, { class: "command" });
    const button = make("button", "Copy", { class: "button", type: "button" });
    button.addEventListener("click", () => copy(text, button));
    box.append(make("code", text), button);
    return box;
  };

  const show = (key) => {
    const cell = page.cells[key];
    if (!cell) return;
    inside.replaceChildren();
    const header = make("header");
    const close = make("button", "Close", { class: "button", type: "button" });
    close.addEventListener("click", () => dialog.close());
    header.append(make("h2", cell.title, { id: "about" }), close);
    inside.append(header, make("p", cell.state));
    if (cell.metrics.length) {
      inside.append(make("h3", "Test, in percent"));
      inside.append(table(["", ...page.measures], cell.metrics));
    }
    if (cell.runs.length) {
      inside.append(make("h3", "Made from"));
      inside.append(table(["", ...cell.runs.map((run) => run.name)],
        page.made.map((name, number) => [name, ...cell.runs.map((run) => run.made[number])]), true));
    }
    inside.append(make("h3", "Commands"));
    for (const [name, text] of cell.commands) inside.append(make("p", name, { class: "of" }), command(text));
    if (!dialog.open) dialog.showModal();
    inside.scrollTop = 0;
  };

  const state = () => new URLSearchParams(location.hash.slice(1));
  const set = (key, value) => {
    const now = state();
    for (const other of [...now.keys()]) if (!["metric", "cell"].includes(other)) now.delete(other);
    if (value) now.set(key, value); else now.delete(key);
    history.replaceState(null, "", `#${now}`);
  };

  const metric = (name) => {
    const choice = [...document.querySelectorAll("input[name=metric]")].find((i) => i.value === name);
    if (!choice) return;
    choice.checked = true;
    document.body.dataset.metric = name;
  };

  const follow = () => {
    const now = state();
    if (now.has("metric")) metric(now.get("metric"));
    if (now.has("cell")) show(now.get("cell")); else if (dialog.open) dialog.close();
  };

  for (const input of document.querySelectorAll("input[name=metric]")) {
    input.addEventListener("change", () => { metric(input.value); set("metric", input.value); });
  }
  document.addEventListener("click", (event) => {
    const place = event.target.closest("button.place");
    if (place) { set("cell", place.dataset.cell); show(place.dataset.cell); }
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => set("cell", null));
  window.addEventListener("hashchange", follow);
  follow();

  const hints = () => {
    for (const box of document.querySelectorAll("main .scroll, main .figure")) {
      const before = box.previousElementSibling;
      const hint = before?.classList.contains("hint")
        ? before
        : box.parentNode.insertBefore(make("p", "More to the right: scroll \u2192", { class: "hint" }), box);
      hint.classList.toggle("on", box.scrollWidth > box.clientWidth + 1);
    }
  };
  for (const part of document.querySelectorAll("details")) part.addEventListener("toggle", hints);
  window.addEventListener("resize", hints);
  document.addEventListener("change", hints);
  hints();
})();
