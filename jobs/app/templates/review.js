// The review queue: one card at a time, judged by keys. A verdict moves on at once and is sent behind; what is
// not saved yet is kept and said.
"use strict";
const part = (id) => document.getElementById(id);
const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
const counted = (forms, n, values) => fill(forms[n === 1 ? 0 : 1], { n, ...values });
const KEYS = { 1: "confirm", 2: "reject", 3: "unsure" };
const USUAL_S = 30; // a verdict, before three of them were timed
const RETRY_MS = 3000;

class Sender {
  // One after the other, in order: an undo comes after what it undoes.
  constructor(onChange) {
    this.onChange = onChange;
    this.waiting = [];
    this.problem = "";
    this.running = false;
    this.whenDone = [];
  }

  push(path, body, onRefused) {
    this.waiting.push({ path, body, onRefused });
    if (!this.running) this.run();
  }

  async run() {
    this.running = true;
    try {
      while (this.waiting.length) {
        const { path, body, onRefused } = this.waiting[0];
        const answer = await post(path, body);
        if (answer.status === 400) onRefused(await answer.text());
        else if (!answer.ok) throw new Error(await answer.text());
        this.problem = "";
        this.waiting.shift();
        this.onChange();
      }
      this.running = false;
      for (const call of this.whenDone.splice(0)) call();
    } catch (problem) {
      this.problem = problem.message;
      this.onChange();
      setTimeout(() => this.run(), RETRY_MS);
    }
  }

  // Do something once everything is saved.
  after(call) {
    if (this.running) this.whenDone.push(call);
    else call();
  }
}

const post = (path, body) => fetch(`/review${path}`, {
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
});

class Queue {
  constructor(data) {
    this.calls = data.calls;
    this.days = data.days;
    this.percents = data.percents;
    this.texts = data.texts;
    this.name = "";
    this.at = null; // the call that is shown
    this.history = [];
    this.said = {}; // call_id -> verdict of this sitting
    this.took_s = [];
    this.cards = new Map();
    this.sounds = new Map();
    this.parts = new Map();
    this.sender = new Sender(() => this.tellUnsaved());
  }

  // What is fetched before it is wanted ------------------------------------------------------------------

  prefetch(call) {
    const id = call.call_id;
    if (!this.cards.has(id)) this.cards.set(id, fetch(`/review/card/${id}`).then((a) => a.text()));
    if (this.sounds.has(id)) return;
    const sound = new Audio();
    sound.preload = "auto";
    this.sounds.set(id, sound);
    this.parts.set(id, fetch(`/review/parts/${id}`).then((a) => a.json()).then((found) => {
      if (!found.problem) sound.src = `/review/clip/${id}`;
      return found;
    }).catch((problem) => ({ problem: problem.message })));
  }

  next(from = null) {
    const open = this.calls.filter((call) => !call.verdict && !call.skipped);
    if (from === null) return open[0] ?? null;
    const after = this.calls.indexOf(from);
    return open.find((call) => this.calls.indexOf(call) > after) ?? open[0] ?? null;
  }

  // Showing -------------------------------------------------------------------------------------------------

  start(name) {
    this.name = name;
    part("start").hidden = true;
    this.show(this.next());
  }

  async show(call) {
    this.sound?.pause();
    if (call === null) { this.finish(); return; }
    this.at = call;
    part("end").hidden = true;
    part("desk").hidden = false;
    this.prefetch(call);
    this.sound = this.sounds.get(call.call_id);
    this.began = performance.now();
    this.pieces = this.head = null;
    part("note").value = "";
    part("trouble").hidden = true;
    part("parts").replaceChildren();
    this.tellProgress();
    this.listen(call);
    const card = await this.cards.get(call.call_id);
    if (this.at !== call) return;
    part("card").innerHTML = card;
    part("card").querySelector(".why")?.replaceChildren(...call.why.map((words) => Object.assign(document.createElement("li"), { textContent: words })));
    part("more").replaceChildren(...part("card").querySelectorAll(".after")); // the clip comes before the drawing
    scrollTo({ top: 0 });
    this.draw(call);
    const following = this.next(call);
    if (following && following !== call) this.prefetch(following);
  }

  async listen(call) {
    const { sound } = this;
    sound.onplay = () => { part("play").textContent = `❚❚ ${this.texts.pause}`; this.follow(); };
    sound.onpause = sound.onended = () => { part("play").textContent = `▶ ${this.texts.play}`; };
    sound.onerror = () => this.explain(call, this.texts.browser);
    part("play").textContent = `▶ ${this.texts.play}`;
    const { problem } = await this.parts.get(call.call_id);
    if (this.at !== call) return;
    part("play").disabled = Boolean(problem);
    if (problem) { this.explain(call, problem); return; }
    sound.currentTime = 0;
    sound.play().catch(() => {});
  }

  explain(call, reason) {
    if (this.at !== call) return;
    part("trouble").textContent = fill(this.texts.cannot_play, { reason });
    part("trouble").hidden = false;
  }

  async draw(call) {
    const found = await this.parts.get(call.call_id);
    if (this.at !== call || found.problem) return;
    const pieces = [
      ...(found.calm.length ? [{ kind: "calm", at_s: found.calm[0].at_s, end_s: found.tick_s, words: "", when: clock(found.calm[0].start_s) }] : []),
      ...found.moments.map((m, i) => ({ kind: "moment", at_s: m.at_s, end_s: found.moments[i + 1]?.at_s ?? found.duration_s, words: m.text, when: clock(m.start_s) })),
    ];
    this.pieces = pieces;
    this.duration_s = found.duration_s;
    const head = Object.assign(document.createElement("i"), { className: "head" });
    part("parts").replaceChildren(...pieces.map((piece) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = piece.kind;
      button.style.flexGrow = piece.end_s - piece.at_s;
      const when = Object.assign(document.createElement("b"), { textContent: piece.kind === "calm" ? fill(this.texts.calm, { at: piece.when }) : piece.when });
      button.append(when, Object.assign(document.createElement("span"), { textContent: piece.kind === "calm" ? this.texts.calm_words : piece.words }));
      button.onclick = () => this.goto(piece.at_s);
      return button;
    }), head);
    this.head = head;
    this.place();
  }

  follow() {
    if (this.sound.paused || !this.at) return;
    this.place();
    requestAnimationFrame(() => this.follow());
  }

  // The parts are buttons with gaps and smallest widths: the playhead runs inside the one that sounds.
  place() {
    if (!this.head || !this.pieces) return;
    const at_s = this.sound.currentTime;
    const buttons = [...part("parts").querySelectorAll("button")];
    const index = Math.max(0, this.pieces.findLastIndex((piece) => piece.at_s <= at_s + 0.01));
    buttons.forEach((button, i) => button.classList.toggle("sounding", i === index && !this.sound.paused));
    const { at_s: begin, end_s: end } = this.pieces[index];
    const share = Math.min(1, Math.max(0, (at_s - begin) / (end - begin)));
    const box = buttons[index];
    this.head.style.left = `${box.offsetLeft + share * box.offsetWidth}px`;
    this.head.style.top = `${box.offsetTop}px`;
    this.head.style.height = `${box.offsetHeight}px`;
  }

  tellProgress() {
    const n_done = this.calls.filter((call) => call.verdict).length;
    const n_left = this.calls.length - n_done;
    const took = [...this.took_s].sort((a, b) => a - b);
    const each_s = took.length < 3 ? USUAL_S : took[Math.floor(took.length / 2)];
    const minutes = Math.max(1, Math.round((n_left * each_s) / 60));
    part("progress").textContent = counted(this.texts.progress, minutes, { pile: this.texts.piles[this.at.pile], n: Math.min(n_done + 1, this.calls.length), all: this.calls.length, minutes });
    part("done").style.width = `${(100 * n_done) / this.calls.length}%`;
    part("undo").disabled = !this.history.length;
    for (const button of document.querySelectorAll("[data-pile]")) {
      const pile = this.calls.filter((call) => call.pile === button.dataset.pile);
      button.querySelector("b").textContent = `${pile.filter((call) => call.verdict).length}/${pile.length}`;
      button.setAttribute("aria-pressed", String(this.at.pile === button.dataset.pile));
      button.disabled = !pile.some((call) => !call.verdict);
    }
  }

  tellUnsaved() {
    const n = this.sender.waiting.length;
    part("unsaved").hidden = !(n && this.sender.problem);
    part("unsaved").textContent = this.sender.problem ? counted(this.texts.unsaved, n, { problem: this.sender.problem }) : "";
  }

  // Judging -------------------------------------------------------------------------------------------------

  judge(verdict) {
    const call = this.at;
    this.took_s.push(Math.min(120, (performance.now() - this.began) / 1000));
    call.verdict = this.said[call.call_id] = verdict;
    call.skipped = false;
    this.history.push({ call, verdict });
    this.sender.push("/judge", { call_id: call.call_id, verdict, note: part("note").value || null, reviewer: this.name }, (reason) => this.refused(call, reason));
    this.show(this.next(call));
  }

  refused(call, reason) {
    call.verdict = null;
    delete this.said[call.call_id];
    part("trouble").textContent = fill(this.texts.refused, { reason });
    part("trouble").hidden = false;
    if (this.at) this.tellProgress();
  }

  skip() {
    this.at.skipped = true;
    this.history.push({ call: this.at, verdict: null });
    this.show(this.next(this.at));
  }

  undo() {
    const last = this.history.pop();
    if (!last) return;
    last.call.skipped = false;
    if (last.verdict) {
      last.call.verdict = null;
      delete this.said[last.call.call_id];
      this.took_s.pop();
      this.sender.push("/undo", { call_id: last.call.call_id, reviewer: this.name }, (reason) => { part("trouble").textContent = reason; part("trouble").hidden = false; });
    }
    this.show(last.call);
  }

  goto(at_s) {
    this.sound.currentTime = at_s;
    this.sound.play().catch(() => {});
    this.place();
  }

  toggle() {
    if (this.sound.paused) this.sound.play().catch(() => {});
    else this.sound.pause();
  }

  nextMoment() {
    const moments = (this.pieces ?? []).filter((piece) => piece.kind === "moment");
    const following = moments.find((piece) => piece.at_s > this.sound.currentTime + 0.05) ?? moments[0];
    if (following) this.goto(following.at_s);
  }

  finish() {
    this.at = null;
    part("desk").hidden = true;
    part("end").hidden = false;
    const skipped = this.calls.filter((call) => call.skipped && !call.verdict);
    part("left").hidden = !skipped.length;
    part("left").querySelector("span").textContent = counted(this.texts.skipped, skipped.length);
    part("end-head").focus({ preventScroll: true });
    scrollTo({ top: 0 });
    part("session").textContent = this.texts.moment;
    this.sender.after(() => this.sum());
  }

  async sum() {
    const answer = await post("/session", { verdicts: this.said, reviewer: this.name });
    if (!answer.ok) { part("session").textContent = await answer.text(); return; }
    const { text, html, misses } = await answer.json();
    part("session").innerHTML = html;
    part("misses-now").textContent = misses;
    part("copy-text").onclick = () => this.copy({ "text/plain": text });
    part("copy-html").onclick = () => this.copy({ "text/html": html, "text/plain": text });
  }

  async copy(kinds) {
    try {
      await navigator.clipboard.write([new ClipboardItem(Object.fromEntries(Object.entries(kinds).map(([kind, words]) => [kind, new Blob([words], { type: kind })])))]);
      part("copied").textContent = this.texts.copied;
    } catch {
      getSelection().selectAllChildren(part("session"));
      part("copied").textContent = this.texts.selected;
    }
  }

  goThroughSkipped() {
    for (const call of this.calls) call.skipped = false;
    this.show(this.next());
  }

  toPile(pile) {
    for (const call of this.calls) if (call.pile === pile) call.skipped = false;
    this.show(this.calls.find((call) => call.pile === pile && !call.verdict) ?? this.next());
  }
}

// The threshold -----------------------------------------------------------------------------------------------

class Threshold {
  constructor(queue) {
    this.queue = queue;
    part("rule").ontoggle = () => part("rule").open && queue.sender.after(() => this.load());
    setTimeout(() => this.load(), 3000); // after the first card, so that it is there when it is opened
    part("threshold").oninput = () => this.tell();
    part("apply").onclick = () => this.apply();
  }

  async load() {
    const answer = await fetch(`/review/thresholds?days=${this.queue.days}`);
    this.found = answer.ok ? await answer.json() : null;
    const known = this.found !== null;
    part("threshold").disabled = part("apply").disabled = !known;
    if (!known) { part("would").textContent = this.queue.texts.no_rule; return; }
    if (!this.loaded) part("threshold").value = Math.round(this.found.now_percent);
    this.loaded = true;
    this.tell();
  }

  tell() {
    if (!this.found) return;
    const percent = Number(part("threshold").value);
    const place = this.queue.percents.indexOf(percent);
    const { n_flagged, n_judged, n_worth, now_percent } = this.found;
    const { texts } = this.queue;
    const judged = n_judged[place];
    const worth = judged ? fill(texts.worth, { share: Math.round((100 * n_worth[place]) / judged), n: n_worth[place], all: judged }) : texts.none_judged;
    const now = percent === Math.round(now_percent) ? ` ${texts.now}` : "";
    part("would").textContent = fill(texts.would, { percent, n: n_flagged[place], worth }) + now;
    part("threshold").setAttribute("aria-valuetext", `${percent}%`);
    part("applied").replaceChildren();
  }

  async apply() {
    part("apply").disabled = true;
    part("applied").textContent = this.queue.texts.applying;
    const answer = await post("/apply", { percent: Number(part("threshold").value) });
    part("apply").disabled = false;
    if (!answer.ok) { part("applied").textContent = await answer.text(); return; }
    const { text, rule, line, command } = await answer.json();
    const shown = (words) => Object.assign(document.createElement("code"), { textContent: words });
    const told = Object.assign(document.createElement("p"), { textContent: `${text} ` });
    const codes = { line, command };
    const pieces = fill(this.queue.texts.by_hand, { rule }).split(/\{(\w+)\}/);
    if (line) told.append(...pieces.map((piece) => (codes[piece] ? shown(codes[piece]) : piece)));
    else told.append(Object.assign(document.createElement("a"), { href: location.href, textContent: this.queue.texts.show_queue }));
    part("applied").replaceChildren(told);
  }
}

// Keys and clicks ---------------------------------------------------------------------------------------------

const queue = new Queue(JSON.parse(part("queue").textContent));
if (part("rule")) new Threshold(queue);
part("days").onchange = () => part("days").form.submit();
if (part("who")) {
  part("name").value = localStorage.getItem("reviewer") ?? "";
  part("name").select();
  queue.prefetch(queue.next());
  part("who").onsubmit = (event) => {
    event.preventDefault();
    const name = part("name").value.trim();
    if (!name) return;
    localStorage.setItem("reviewer", name);
    queue.start(name);
    part("name").blur();
  };
}
for (const button of document.querySelectorAll("[data-verdict]")) button.onclick = () => queue.judge(button.dataset.verdict);
for (const button of document.querySelectorAll("[data-pile]")) button.onclick = () => queue.toPile(button.dataset.pile);
part("play").onclick = () => queue.toggle();
part("skip").onclick = () => queue.skip();
part("undo").onclick = part("back").onclick = () => queue.undo();
part("again").onclick = () => queue.goThroughSkipped();
part("help").onclick = () => part("keys").showModal();
part("note").onkeydown = (event) => { if (event.key === "Enter" || event.key === "Escape") { event.preventDefault(); part("note").blur(); } };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || part("keys").open) return;
  if (event.target.matches("input[type=text], select, input[type=range]")) return;
  const key = event.key.toLowerCase();
  if (key === "?") part("keys").showModal();
  else if (key === "u" && part("start").hidden) queue.undo();
  else if (!queue.at) return;
  else if (KEYS[key]) queue.judge(KEYS[key]);
  else if (key === "s") queue.skip();
  else if (key === "n") part("note").focus();
  else if (key === "k" || (key === " " && !event.target.matches("button, summary, a"))) queue.toggle();
  else if (key === "arrowleft") queue.goto(Math.max(0, queue.sound.currentTime - 3));
  else if (key === "arrowright") queue.goto(queue.sound.currentTime + 3);
  else if (key === "e") queue.nextMoment();
  else if (key === "c") queue.goto(0);
  else return;
  event.preventDefault();
});
addEventListener("beforeunload", (event) => { if (queue.sender.waiting.length) event.preventDefault(); });
