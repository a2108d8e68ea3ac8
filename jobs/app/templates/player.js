// Plays a call, lets the timeline follow, and sends what a person hears. Reviews are kept here until the
// server has acknowledged them, so that fast typing loses none.
const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
const typing = (target) => target.matches("input[type=text], select, textarea");

class Desk {
  constructor(sheet) {
    this.sheet = sheet;
    this.waiting = [];
    this.current = null;
    this.count = 0;
  }

  show(data, setStateValue) {
    this.send = () => setStateValue("pressed", this.waiting);
    if (this.html !== data.html) this.build(data);
    this.data = data;
    // Every answer of the server brings the segments anew; the current one is the same place in the new list.
    this.current = data.segments.find((s) => s.segment === this.current?.segment) ?? null;
    this.held = data.segments.find((s) => s.segment === this.held?.segment) ?? null;
    const known = new Set(data.acknowledged);
    this.waiting = this.waiting.filter((press) => !known.has(press.id));
    for (const row of this.sheet.querySelectorAll("tr[data-segment]")) {
      row.querySelector(".reviewed").textContent = data.reviewed[row.dataset.segment] ?? "";
    }
    this.part(".whole-said").textContent = data.reviewed.call ?? data.texts.not_reviewed;
    if (data.problem) this.part(".said").textContent = data.problem;
  }

  part(selector) {
    return this.sheet.querySelector(selector);
  }

  build(data) {
    this.html = data.html;
    this.data = data;
    this.current = this.held = null;
    this.player?.pause();
    this.sheet.innerHTML = data.html;
    this.player = this.part("audio");
    this.head = this.part(".playhead");
    this.player.src = data.sound;
    this.player.preservesPitch = true;
    this.player.onplay = () => { this.part(".go").textContent = `❚❚ ${this.data.texts.pause}`; this.head.hidden = false; this.follow(); };
    this.player.onpause = () => { this.part(".go").textContent = `▶ ${this.data.texts.play}`; };
    this.player.onerror = () => this.explain();
    this.player.onseeked = () => this.drawn(this.at);
    this.part(".seek").oninput = (event) => this.goto(Number(event.target.value));
    this.part(".speed").onchange = (event) => { this.player.playbackRate = Number(event.target.value); };
    this.part(".strip-body").onclick = (event) => {
      const box = this.part(".strip-body").getBoundingClientRect();
      this.goto(((event.clientX - box.left) / box.width) * this.data.duration_s);
    };
    const desk = this.part(".player");
    desk.onclick = (event) => this.clicked(event);
    desk.onkeydown = (event) => this.typed(event);
    this.part(".go").focus({ preventScroll: true });
  }

  // What went wrong is in the answer of the server, not in the player's error.
  async explain() {
    const answer = await fetch(this.data.sound);
    const reason = answer.ok ? this.data.texts.browser : await answer.text();
    this.part(".trouble").textContent = fill(this.data.texts.cannot_play, { reason });
  }

  play() {
    this.player.play().catch(() => {});
  }

  toggle() {
    if (this.player.paused) this.play();
    else this.player.pause();
  }

  goto(at_s) {
    const place = Math.min(Math.max(at_s, 0), Math.max(0, this.data.duration_s - 0.05));
    this.held = null;
    this.wanted = place;
    if (this.player.readyState > 0) this.player.currentTime = place;
    else {
      // Nothing is loaded before it is asked for; a place asked for meanwhile is gone to when it is.
      this.player.onloadedmetadata = () => { this.player.currentTime = this.wanted; };
      this.player.preload = "auto";
      if (this.player.networkState !== 2) this.player.load();
    }
    this.head.hidden = false;
    this.moved(place);
  }

  get at() {
    return this.player.readyState > 0 ? this.player.currentTime : (this.wanted ?? 0);
  }

  follow() {
    if (this.player.paused || !this.sheet.isConnected) return;
    const held = this.part(".hold").checked && this.current;
    if (held && this.held !== held && this.player.currentTime >= held.end_s - 0.02) {
      this.held = held;
      this.player.pause();
      return;
    }
    this.moved();
    requestAnimationFrame(() => this.follow());
  }

  // The segment under the playhead becomes the current one. A little ahead, since a place that was asked
  // for is met only to a few milliseconds and should not fall back into the segment before.
  moved(at_s = this.at) {
    this.drawn(at_s);
    const here = this.data.segments.filter((s) => s.start_s <= at_s + 0.05 && at_s < s.end_s);
    if (here.length && !here.includes(this.current)) this.choose(here[here.length - 1]);
  }

  drawn(at_s) {
    for (const line of this.sheet.querySelectorAll(".spoken li")) {
      line.classList.toggle("now", Number(line.dataset.start) <= at_s && at_s < Number(line.dataset.end));
    }
    this.head.style.left = `${Math.min(100, (100 * at_s) / this.data.duration_s)}%`;
    const slider = this.part(".seek");
    slider.value = at_s;
    slider.setAttribute("aria-valuetext", clock(at_s));
    this.part(".now").textContent = clock(at_s);
    const wide = this.part(".wide");
    if (wide.scrollWidth > wide.clientWidth) {
      const body = this.part(".strip-body");
      wide.scrollLeft = body.offsetLeft + (body.offsetWidth * at_s) / this.data.duration_s - wide.clientWidth / 2;
    }
  }

  choose(segment) {
    this.current = segment;
    this.part("#current").textContent = segment.text;
    for (const row of this.sheet.querySelectorAll("tr[aria-current]")) row.removeAttribute("aria-current");
    const row = this.part(`tr[data-segment="${segment.segment}"]`);
    row.setAttribute("aria-current", "true");
    const list = this.part(".list");
    const top = row.offsetTop - list.clientHeight / 2;
    if (list.scrollHeight > list.clientHeight) list.scrollTop = top;
  }

  step(by) {
    const all = this.data.segments;
    if (!all.length) return;
    const at = this.current ? all.indexOf(this.current) : by > 0 ? -1 : all.length;
    const segment = all[Math.min(Math.max(at + by, 0), all.length - 1)];
    this.choose(segment);
    this.goto(segment.start_s);
    this.choose(segment);
  }

  evidence() {
    const places = this.data.evidence_s;
    if (!places.length) return;
    this.goto(places.find((s) => s > this.at + 0.05) ?? places[0]);
    this.play();
  }

  clicked(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const { do: action, at, segment, verdict, emotion } = button.dataset;
    if (action) this.act(action);
    else if (at) { this.goto(Number(at)); this.play(); }
    else if (verdict) this.review(verdict, emotion, "whole" in button.dataset);
    else if (segment) {
      const chosen = this.data.segments.find((s) => String(s.segment) === segment);
      this.goto(chosen.start_s);
      this.choose(chosen);
      this.play();
    }
    // After a click of the mouse the keys belong to the player again; keyboard users stay where they are.
    if (event.detail > 0) this.part(".player").focus({ preventScroll: true });
  }

  act(action) {
    ({
      play: () => this.toggle(),
      back: () => this.goto(this.at - 5),
      on: () => this.goto(this.at + 5),
      previous: () => this.step(-1),
      next: () => this.step(1),
      evidence: () => this.evidence(),
    })[action]();
  }

  typed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const native = event.target.matches("button, input, summary");
    if (event.target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
    const key = event.key.toLowerCase();
    const actions = { k: "play", arrowleft: "back", arrowright: "on", arrowup: "previous", arrowdown: "next", e: "evidence" };
    const whole = { 1: "confirm", 2: "reject", 3: "unsure" };
    if (key === " " && !native) this.act("play");
    else if (actions[key]) this.act(actions[key]);
    else if (key === "y") this.review("confirm");
    else if (key === "x") this.review("unsure");
    else if (whole[key]) this.review(whole[key], undefined, true);
    else if (this.data.letters[key]) this.review("hear", this.data.letters[key]);
    else return;
    event.preventDefault();
  }

  review(verdict, emotion, whole = false) {
    const status = this.part(".said");
    if (!whole && !this.current) { status.textContent = this.data.texts.choose; return; }
    if (!whole && verdict === "confirm" && !this.current.emotion) {
      status.textContent = this.data.texts.unnamed;
      return;
    }
    const note = this.part(".note");
    const heard = verdict === "hear";
    const agrees = heard && emotion === this.current.emotion;
    this.waiting.push({
      id: `${Date.now()}-${this.count++}`,
      verdict: heard ? (agrees ? "confirm" : "reject") : verdict,
      segment: whole ? null : this.current.segment,
      emotion: heard && !agrees ? emotion : null,
      note: note.value || null,
    });
    note.value = "";
    const { texts } = this.data;
    const what = heard ? texts.you_hear[emotion] : texts[whole ? "call" : "segment"][verdict];
    status.textContent = fill(texts.noted, { where: whole ? texts.whole : clock(this.current.start_s), what });
    this.send();
  }
}

export default function ({ parentElement, data, setStateValue }) {
  const sheet = parentElement.querySelector(".sheet");
  sheet.desk ??= new Desk(sheet);
  sheet.desk.show(data, setStateValue);
  return () => sheet.desk.player?.pause();
}
