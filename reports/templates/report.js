// Playback of evidence clips, keys, and sorting and filtering of tables. Pages read well without it: clips
// open as files, and tables show all their rows.
"use strict";
(() => {
  const words = JSON.parse(document.body.dataset.words);
  const filled = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const STEP_S = 5;

  // Playing ------------------------------------------------------------------------------------------------

  const plays = [...document.querySelectorAll(".play:not(.off)")];
  let sounding = null; // the button whose moment plays or was paused, with its player
  let last = null;

  // What belongs to one call: a card of the brief, or the whole page of a call.
  const scopeOf = (element) => element.closest(".card") ?? document.querySelector("main");

  function headsOf(scope) {
    return [...scope.querySelectorAll(".playhead")];
  }

  function show(button, symbol) {
    button.classList.toggle("playing", symbol !== "▶");
    button.querySelector(".icon").textContent = symbol;
  }

  function stop() {
    if (!sounding) return;
    const { button, player } = sounding;
    sounding = null;
    player.pause();
    show(button, "▶");
    for (const head of headsOf(document)) head.hidden = true;
    markSpoken(-1);
  }

  // The line of the transcript that is heard.
  function markSpoken(at) {
    for (const line of document.querySelectorAll(".spoken li")) {
      line.classList.toggle("now", Number(line.dataset.start) <= at && at < Number(line.dataset.end));
    }
  }

  function draw() {
    const { button, player } = sounding;
    const scope = scopeOf(button);
    const body = scope.querySelector(".strip-body");
    if (!body) return;
    const at = Number(button.dataset.start) + player.currentTime;
    const share = Math.min(1, at / Number(body.dataset.duration));
    markSpoken(at);
    for (const head of headsOf(scope)) {
      head.hidden = false;
      head.style.left = `${100 * share}%`;
      const wide = head.closest(".wide");
      if (wide && wide.scrollWidth > wide.clientWidth) {
        wide.scrollLeft = head.parentElement.offsetLeft + head.parentElement.offsetWidth * share - wide.clientWidth / 2;
      }
    }
  }

  function follow(player) {
    if (!sounding || sounding.player !== player || player.paused) return;
    draw();
    requestAnimationFrame(() => follow(player));
  }

  function play(button, from_s = 0) {
    stop();
    const player = button.nextElementSibling;
    sounding = { button, player };
    last = button;
    player.onended = stop;
    const begin = () => { player.currentTime = Math.min(from_s, Math.max(0, (player.duration || 0) - 0.5)); };
    if (player.readyState > 0) begin();
    else if (from_s > 0) player.addEventListener("loadedmetadata", begin, { once: true });
    // A clip that the browser cannot play is opened as a file.
    player.play().then(
      () => { keepInSight(button); follow(player); },
      () => { if (sounding && sounding.button === button) { stop(); if (button.href) location.assign(button.href); } },
    );
    show(button, "■");
  }

  function keepInSight(button) {
    const strip = scopeOf(button).querySelector(".strip");
    if (!strip) return;
    const { top, bottom } = strip.getBoundingClientRect();
    if (top < 0 || bottom > innerHeight) strip.scrollIntoView({ block: "nearest" });
  }

  function pauseOrGoOn() {
    if (!sounding) { if (last ?? plays[0]) play(last ?? inView() ?? plays[0]); return; }
    const { button, player } = sounding;
    if (player.paused) player.play().then(() => { show(button, "■"); follow(player); }, stop);
    else { player.pause(); show(button, "▶"); }
  }

  const inView = () => plays.find((button) => button.getBoundingClientRect().top >= 0);

  function next() {
    const at = last ? plays.indexOf(last) : plays.indexOf(inView() ?? plays[0]) - 1;
    const button = plays[(at + 1) % plays.length];
    if (!button) return;
    button.focus({ preventScroll: true });
    play(button);
  }

  // The moment that a click on a pin or on a lane means: the one that lies nearest.
  function atPlace(body, event) {
    const scope = scopeOf(body);
    const pin = event.target.closest(".spot");
    const buttons = [...scope.querySelectorAll(".moments .play")];
    if (pin) {
      const button = buttons[[...body.querySelectorAll(".spot")].indexOf(pin)];
      if (button && !button.classList.contains("off")) play(button);
      return;
    }
    const box = body.getBoundingClientRect();
    const at_s = ((event.clientX - box.left) / box.width) * Number(body.dataset.duration);
    const playable = buttons.filter((button) => !button.classList.contains("off"));
    const distance = (button) => Math.abs(Number(button.dataset.start) + 2 - at_s);
    const nearest = playable.sort((a, b) => distance(a) - distance(b))[0];
    if (!nearest) return;
    const inside_s = at_s - Number(nearest.dataset.start);
    play(nearest, inside_s > 0 && inside_s < 15 ? inside_s : 0);
  }

  document.addEventListener("click", (event) => {
    const body = event.target.closest(".strip-body");
    if (body) { atPlace(body, event); return; }
    const button = event.target.closest(".play:not(.off)");
    if (!button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const again = sounding && sounding.button === button;
    stop();
    if (!again) play(button);
  });

  for (const body of document.querySelectorAll(".strip-body")) {
    if (scopeOf(body).querySelector(".play:not(.off)")) body.classList.add("audible");
  }
  for (const link of document.querySelectorAll("a.play")) {
    link.setAttribute("role", "button");
    link.addEventListener("keydown", (event) => {
      if (event.key === " ") { event.preventDefault(); link.click(); }
    });
  }

  // Keys ---------------------------------------------------------------------------------------------------

  const keys = document.getElementById("keys");
  const help = () => (keys.open ? keys.close() : keys.showModal());
  for (const button of document.querySelectorAll(".keys-button")) {
    button.hidden = false;
    button.addEventListener("click", help);
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    const actions = {
      "?": help,
      k: pauseOrGoOn,
      e: next,
      "/": () => document.querySelector(".filter input")?.focus(),
    };
    if (sounding) {
      const by = (s) => () => { sounding.player.currentTime = Math.max(0, sounding.player.currentTime + s); draw(); };
      actions.ArrowLeft = by(-STEP_S);
      actions.ArrowRight = by(STEP_S);
      if (!event.target.matches("a.play, button, summary")) actions[" "] = pauseOrGoOn;
    }
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  // Commands -----------------------------------------------------------------------------------------------

  for (const command of document.querySelectorAll("code[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = words.copy;
    button.setAttribute("aria-label", `${words.copy}: ${command.textContent}`);
    button.addEventListener("click", () => {
      getSelection().selectAllChildren(command);
      document.execCommand("copy"); // also where a page opened from a file has no clipboard
      button.textContent = words.copied;
      setTimeout(() => { button.textContent = words.copy; }, 1500);
    });
    command.after(" ", button);
  }

  // Charts over time start at the newest day where they do not fit -----------------------------------------

  for (const drawing of document.querySelectorAll(".newest")) drawing.scrollLeft = drawing.scrollWidth;

  // Tables -------------------------------------------------------------------------------------------------

  // Rows in the page: thousands more are kept aside until they are asked for.
  const AT_ONCE = matchMedia("(max-width: 640px)").matches ? 15 : 200;
  const language = document.documentElement.lang;
  const collator = new Intl.Collator(language, { numeric: true });
  const shownText = (row, column) => row.cells[column].textContent.trim();
  const key = (row, column) => row.cells[column].dataset.sort ?? shownText(row, column);
  const isNumber = (text) => text !== "" && !isNaN(text);

  function compare(a, b) {
    if (isNumber(a) && isNumber(b)) return a - b;
    return collator.compare(a, b);
  }

  class Table {
    constructor(table) {
      this.table = table;
      this.body = table.tBodies[0];
      this.rows = [...this.body.rows];
      this.matching = this.rows;
      this.most = AT_ONCE;
      this.headers = [...table.tHead.rows[0].cells];
      this.names = this.headers.map((header) => header.textContent.trim());
      this.headers.forEach((header, column) => this.sortable(header, column));
      if (table.dataset.choices !== undefined) this.filterable(table.dataset.choices.split(" ").map(Number));
      this.render();
    }

    sortable(header, column) {
      if (!header.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = header.textContent;
      header.replaceChildren(button);
      button.addEventListener("click", () => {
        const was = header.getAttribute("aria-sort");
        // Of numbers people want the highest first.
        const first = header.classList.contains("num") ? "descending" : "ascending";
        const order = was === null ? first : was === "ascending" ? "descending" : "ascending";
        for (const other of this.headers) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", order);
        const keyed = this.rows.map((row) => [key(row, column), row]);
        const sign = order === "descending" ? -1 : 1;
        keyed.sort(([a], [b]) => sign * compare(a, b));
        this.rows = keyed.map(([, row]) => row);
        this.filter();
      });
    }

    filterable(columns) {
      const bar = document.createElement("form");
      bar.className = "filter";
      bar.addEventListener("submit", (event) => event.preventDefault());
      const box = document.createElement("input");
      box.type = "search";
      box.placeholder = words.filter;
      box.setAttribute("aria-label", words.filter);
      this.box = box;
      this.texts = new Map(this.rows.map((row) => [row, row.textContent.toLowerCase()]));
      this.selects = columns.map((column) => this.select(column));
      this.status = document.createElement("output");
      this.more = document.createElement("button");
      this.more.type = "button";
      this.more.className = "more-rows";
      this.more.textContent = words.more;
      this.more.addEventListener("click", () => { this.most += 5 * AT_ONCE; this.render(); });
      bar.append(box, ...this.selects.map(([, select]) => select).filter(Boolean), this.status);
      bar.addEventListener("input", () => { this.most = AT_ONCE; this.filter(); });
      const scroll = this.table.closest(".scroll");
      scroll.before(bar);
      scroll.after(this.more);
    }

    // A choice of the values of a column; of a reason only its words, since every call has its own figures.
    select(column) {
      const bare = (row) => shownText(row, column).split(";").map((part) => part.replace(/[-+]?\d[\d.,:]*\s*%?/g, "…").trim());
      const values = new Set(this.rows.flatMap(bare).filter(Boolean));
      if (values.size < 2 && !(values.size === 1 && this.rows.some((row) => !shownText(row, column)))) return [column, null];
      const select = document.createElement("select");
      const name = filled(words.any, { column: this.names[column] });
      select.setAttribute("aria-label", this.names[column]);
      const options = [["", name], ...[...values].sort(collator.compare).map((value) => [value, value])];
      if (this.rows.some((row) => !shownText(row, column))) options.push(["–none", `${this.names[column]}: ${words.none}`]);
      for (const [value, text] of options) select.add(new Option(text, value));
      return [column, select, bare];
    }

    filter() {
      if (!this.box) { this.matching = this.rows; this.render(); return; }
      const wanted = this.box.value.toLowerCase().split(/\s+/).filter(Boolean);
      const chosen = this.selects.filter(([, select]) => select && select.value);
      this.matching = this.rows.filter((row) =>
        wanted.every((word) => this.texts.get(row).includes(word))
        && chosen.every(([, select, bare]) => (select.value === "–none" ? bare(row).join("") === "" : bare(row).includes(select.value))));
      this.render();
    }

    render() {
      const most = this.box ? this.most : this.matching.length;
      const rows = this.matching.slice(0, most);
      this.label(rows);
      this.body.replaceChildren(...rows);
      if (!this.box) return;
      this.status.textContent = filled(words.shown, { shown: this.matching.length.toLocaleString(language), all: this.rows.length.toLocaleString(language) });
      this.more.hidden = this.matching.length <= most;
    }

    // On a phone a row is a block, and every cell says what it is.
    label(rows) {
      for (const row of rows) {
        if (row.dataset.labelled) continue;
        row.dataset.labelled = "1";
        this.names.forEach((name, column) => { row.cells[column].dataset.label = name; });
      }
    }
  }

  for (const table of document.querySelectorAll("table")) {
    if (table.dataset.sortable !== undefined) new Table(table);
    else if (table.tHead && !table.classList.contains("segments")) {
      const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
      for (const row of table.tBodies[0].rows) {
        [...row.cells].forEach((cell, column) => { cell.dataset.label = names[column] ?? ""; });
      }
    }
  }
})();
