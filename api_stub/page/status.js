// The status page: asks the public API what jobs are doing, and shows it.
//
// Whatever comes from the API goes into the page as text: names are customers', and errors may be
// vendors'. The page's policy makes anything else an error (trusted types).

const LISTED = 10;
const REFRESH_SECONDS = 3;
// A browser opens six connections to a host, over all its windows: two of ours may be held open.
const FOLLOWED = 2;
const HOLD_SECONDS = 20;
const PATIENCE_SECONDS = 10;
const LONGEST_BACKOFF_SECONDS = 30;
const KEY = /^[!-~]{1,256}$/;
const FINAL = new Set(["active", "failed", "cancelled", "stuck", "released"]);

// State of a job or a step → how it looks. What it is stands beside it as a word.
const LOOKS = {
  queued: "",
  waiting: "",
  running: "busy",
  undoing: "warn",
  active: "good",
  done: "good",
  released: "good",
  failed: "bad",
  stuck: "bad",
  cancelled: "",
  undone: "warn",
};
const MARKS = { waiting: "·", running: "→", done: "✓", failed: "!", undoing: "↶", undone: "↶", stuck: "!" };

const $ = (id) => document.getElementById(id);

// The API

/** The key was refused: nothing helps but another one. */
class Refused extends Error {}

/** There was no answer that helps; another try may. */
class Away extends Error {
  constructor(message, retryAfter = null) {
    super(message);
    this.retryAfter = retryAfter;
  }
}

/** How far the clock of the API is before ours: what it says of the future is shown as from now. */
let clockAhead = 0;
const now = () => Date.now() + clockAhead;

/**
 * What the holder of a key sees, until it is given up. The key is in this object alone: storage is
 * shared with /docs, which runs scripts of others, and outlives the page.
 */
class Session {
  #key;
  #end = new AbortController();

  constructor(key) {
    this.#key = key;
  }

  get over() {
    return this.#end.signal.aborted;
  }

  end() {
    this.#key = "";
    this.#end.abort();
  }

  /** Returns the status, the body and the ETag of an answer; throws Refused or Away. */
  async get(path, { etag = null, seconds = PATIENCE_SECONDS, signal }) {
    const headers = { Authorization: `Bearer ${this.#key}`, Accept: "application/json" };
    if (etag !== null) headers["If-None-Match"] = etag;
    const limit = AbortSignal.timeout(seconds * 1000);
    let answer;
    let body = null;
    let said;
    try {
      answer = await fetch(path, {
        headers,
        signal: AbortSignal.any([signal, this.#end.signal, limit]),
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
      });
      said = await answer.text();
    } catch (error) {
      if (signal.aborted || this.over) throw error;
      throw new Away("The API does not answer.");
    }
    try {
      body = JSON.parse(said);
    } catch {
      // No news, or somebody else answers for the API: the status tells.
    }
    if (answer.status === 401 || answer.status === 403) {
      throw new Refused(text(body?.detail) || "This key is not accepted.");
    }
    const after = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10);
    const retryAfter = Number.isFinite(after) ? after : null;
    if (answer.status === 429) throw new Away("The API asks us to slow down.", retryAfter);
    if (answer.status !== 304 && (!answer.ok || body === null)) {
      throw new Away(text(body?.detail) || "The API does not answer.", retryAfter);
    }
    const date = Date.parse(answer.headers.get("Date") ?? "");
    if (!Number.isNaN(date)) clockAhead = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
    return { status: answer.status, body, etag: answer.headers.get("ETag") };
  }
}

const text = (value) => (typeof value === "string" ? value : "");

/** Waits, until it is woken; rejects once the signal says to stop. */
function rest(seconds, signal, waker) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(wake, seconds * 1000);
    function forget() {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      waker.removeEventListener("wake", wake);
    }
    function wake() {
      forget();
      resolve();
    }
    function stop() {
      forget();
      reject(signal.reason);
    }
    signal.addEventListener("abort", stop);
    waker.addEventListener("wake", wake);
    if (signal.aborted) stop();
  });
}

// Elements

function element(tag, className = "", content = null) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content !== null) made.textContent = content;
  return made;
}

/** Writes only what is different: a screen reader or a selection is not disturbed. */
function write(node, content) {
  if (node.textContent !== content) node.textContent = content;
}

function duration(milliseconds) {
  if (milliseconds < 1000) return `${Math.max(0, Math.round(milliseconds))} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 10 && seconds % 1 !== 0) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

function moment(when) {
  const made = element("time", "", new Date(when).toLocaleString());
  made.dateTime = when;
  return made;
}

/** Whether one answer about a job is newer than another: to the microsecond, which Date is not. */
const later = (one, other) => one.updated_at.replace("Z", "") > other.updated_at.replace("Z", "");

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// A job

class Card {
  constructor(job) {
    this.job = job;
    this.etag = null;
    this.steps = null;
    this.root = element("li", "job");
    this.details = element("details");
    this.summary = element("summary");
    this.badge = element("span", "badge");
    this.number = element("span", "number");
    this.about = element("span", "about");
    this.progress = element("span", "progress");
    this.progress.setAttribute("role", "img");
    this.elapsed = element("span", "elapsed");
    this.why = element("span", "why");
    this.inside = element("div", "inside");
    const who = element("span", "who");
    who.append(this.number, " ", this.about);
    this.summary.append(this.badge, who, this.progress, this.elapsed, this.why);
    this.details.append(this.summary, this.inside);
    this.root.append(this.details);
    // What is under way, or waits for somebody, is open to begin with.
    this.details.open = !FINAL.has(job.status) || job.status === "stuck";
  }

  /** Shows what a list or a single answer says of the job. */
  update(job, etag = null) {
    this.job = job;
    if (job.steps) {
      this.steps = job.steps;
      this.etag = etag;
      this.shownAt = job.updated_at;
    }
    this.badge.className = `badge ${LOOKS[job.status] ?? ""}`;
    write(this.badge, job.status);
    write(this.number, job.phone_number);
    write(this.about, [job.friendly_name, job.provider, job.kind].filter(Boolean).join(" · "));
    const error = job.undo_error ?? job.error;
    write(this.why, error ? `${error.code}: ${error.message}` : "");
    this.#showProgress();
    this.#showInside();
    this.tick();
  }

  /** Whether its steps are older than what the list says. */
  get stale() {
    return this.steps === null || this.shownAt !== this.job.updated_at;
  }

  get live() {
    return !FINAL.has(this.job.status);
  }

  /** Shows what changes with time alone. */
  tick() {
    const begun = Date.parse(this.job.started_at ?? this.job.created_at);
    const until = this.job.finished_at && !this.live ? Date.parse(this.job.finished_at) : now();
    // Of what goes on, whole seconds: it is written once a second.
    const passed = this.live ? Math.max(1000, Math.floor((until - begun) / 1000) * 1000) : until - begun;
    write(this.elapsed, duration(passed));
    if (!this.next) return;
    const left = Date.parse(this.job.next_attempt_at) - now();
    write(this.next, left > 0 ? `next attempt in ${Math.ceil(left / 1000)} s` : "next attempt is due");
  }

  #showProgress() {
    if (this.steps === null) return;
    const done = this.steps.filter((step) => step.state === "done").length;
    this.progress.replaceChildren(
      ...this.steps.map((step) => element("i", LOOKS[step.state] ?? "")),
    );
    this.progress.setAttribute("aria-label", `${done} of ${plural(this.steps.length, "step")} done`);
  }

  #showInside() {
    const { job } = this;
    const parts = [this.#facts()];
    if (job.undo_error) {
      const { code, step, message } = job.undo_error;
      parts.push(element("p", "said", `Stuck: ${code} at the undo of ${step}. ${message}`));
    }
    if (job.error) {
      const { code, step, message } = job.error;
      parts.push(element("p", "said", `${code}${step ? ` at ${step}` : ""}: ${message}`));
    }
    parts.push(...job.warnings.map((warning) => element("p", "said warn", `Warning: ${warning}`)));
    this.next = null;
    if (this.steps === null) {
      parts.push(element("p", "about", "Its steps are on their way."));
    } else {
      const list = element("ol", "steps");
      list.append(...this.steps.map((step) => this.#step(step)));
      parts.push(list);
    }
    this.inside.replaceChildren(...parts);
  }

  #facts() {
    const { job } = this;
    const facts = element("p", "facts");
    const id = element("span");
    id.append(element("code", "", job.id));
    const begun = element("span", "", "accepted ");
    begun.append(moment(job.created_at));
    facts.append(id, begun);
    if (job.finished_at && !this.live) {
      const ended = element("span", "", "ended ");
      ended.append(moment(job.finished_at));
      facts.append(ended);
    }
    if (job.cancel_requested_at) facts.append(element("span", "", "cancellation was asked for"));
    return facts;
  }

  #step(step) {
    const row = element("li", `step ${step.state}`);
    const mark = element("span", `mark ${LOOKS[step.state] ?? ""}`, MARKS[step.state] ?? "·");
    mark.setAttribute("aria-hidden", "true");
    const state = element("span", "state", step.state);
    if (step.attempts > 1) state.append(`, ${plural(step.attempts, "attempt")}`);
    if (step.undo_attempts > 1) state.append(`, ${plural(step.undo_attempts, "undo attempt")}`);
    const took = element("span", "took");
    if (step.started_at && step.finished_at) {
      const ran = Date.parse(step.finished_at) - Date.parse(step.started_at);
      if (ran >= 0) took.textContent = duration(ran);
    }
    row.append(mark, element("span", "name", step.name), state, took);
    const going = step.state === "running" || step.state === "undoing";
    if (going && this.job.next_attempt_at) {
      this.next = element("span", "next");
      state.append(", ", this.next);
    }
    if (step.error) {
      // Of an attempt that another one follows, or that one has put right.
      const passing = going || step.state === "done" ? " passing" : "";
      row.append(element("p", `why${passing}`, `${step.error.code}: ${step.error.message}`));
    }
    return row;
  }
}

// The board

class Board {
  #session;
  #cards = new Map();
  #following = new Map();
  #pages = new AbortController();
  #waker = new EventTarget();
  #news = [];

  constructor(session) {
    this.#session = session;
  }

  wake() {
    this.#waker.dispatchEvent(new Event("wake"));
  }

  /** Ends what is being asked: nobody looks. */
  pause() {
    this.#pages.abort();
  }

  /** Asks until the session is over; tells through `connected` how that goes. */
  async run(connected) {
    let failures = 0;
    while (!this.#session.over) {
      // Also what is still held open from before.
      this.#pages.abort();
      this.#pages = new AbortController();
      const { signal } = this.#pages;
      try {
        if (document.hidden) {
          connected("paused");
          await rest(2 ** 20, signal, this.#waker);
          continue;
        }
        await this.#refresh(signal);
        failures = 0;
        connected("live");
        while (!document.hidden) {
          await rest(REFRESH_SECONDS, signal, this.#waker);
          await this.#refresh(signal);
        }
      } catch (error) {
        if (this.#session.over) return;
        if (error instanceof Refused) throw error;
        if (!(error instanceof Away)) {
          if (!signal.aborted) throw error;
          continue;
        }
        // Those that wait at the same time do not come back at the same time.
        const backoff = Math.min(LONGEST_BACKOFF_SECONDS, 2 ** failures) * (0.75 + Math.random() / 2);
        failures += 1;
        await this.#wait(error, Math.max(backoff, error.retryAfter ?? 0), connected);
      }
    }
  }

  async #wait(error, seconds, connected) {
    const until = Date.now() + seconds * 1000;
    let woken = false;
    this.#waker.addEventListener("wake", () => { woken = true; }, { once: true });
    for (let left = seconds; left > 0 && !woken && !this.#session.over; ) {
      connected("away", error.message, Math.ceil(left));
      await rest(Math.min(1, left), new AbortController().signal, this.#waker);
      left = (until - Date.now()) / 1000;
    }
  }

  async #refresh(signal) {
    const [list, counts] = await Promise.all([
      this.#session.get(`/v1/imports?limit=${LISTED}`, { signal }),
      this.#session.get("/v1/imports/counts", { signal }),
    ]);
    showCounts($("open"), counts.body.open);
    showCounts($("ended"), counts.body.ended);
    this.#arrange(list.body.items);
    const stale = [...this.#cards.values()].filter((card) => card.stale && !this.#following.has(card.job.id));
    await Promise.all(stale.map((card) => this.#read(card, signal)));
    this.#announce();
    this.#follow(signal);
  }

  /** Puts the listed jobs into their order, each in the card that it had. */
  #arrange(jobs) {
    const first = this.#cards.size === 0;
    const cards = new Map();
    for (const job of jobs) {
      const card = this.#cards.get(job.id) ?? new Card(job);
      if (!first && !this.#cards.has(job.id)) this.#tell(job, "accepted");
      // What a follower has shown may be newer than the list.
      if (card.steps === null || later(job, card.job)) this.#show(card, job);
      cards.set(job.id, card);
    }
    this.#cards = cards;
    const list = $("jobs");
    [...cards.values()].forEach((card, place) => {
      // Moving an element takes the focus out of it.
      if (list.children[place] !== card.root) list.insertBefore(card.root, list.children[place] ?? null);
    });
    while (list.children.length > cards.size) list.lastElementChild.remove();
    $("empty").hidden = cards.size > 0;
  }

  #show(card, job, etag = null) {
    if (card.job.status !== job.status) this.#tell(job, job.status);
    card.update(job, etag);
  }

  async #read(card, signal) {
    const answer = await this.#session.get(`/v1/imports/${encodeURIComponent(card.job.id)}`, { etag: card.etag, signal });
    if (answer.status === 200) this.#show(card, answer.body, answer.etag);
    else card.shownAt = card.job.updated_at;
  }

  /** Keeps a request open for the newest jobs under way: each answers as soon as it changes. */
  #follow(signal) {
    const live = [...this.#cards.values()].filter((card) => card.live && card.etag);
    for (const card of live.slice(0, FOLLOWED)) {
      const { id } = card.job;
      if (this.#following.has(id) || this.#following.size >= FOLLOWED) continue;
      this.#following.set(id, card);
      this.#hold(card, signal)
        // The next refresh meets the same trouble, and says so.
        .catch(() => {})
        .finally(() => this.#following.delete(id));
    }
  }

  async #hold(card, signal) {
    while (card.live && this.#cards.get(card.job.id) === card) {
      const path = `/v1/imports/${encodeURIComponent(card.job.id)}?wait=${HOLD_SECONDS}`;
      const answer = await this.#session.get(path, { etag: card.etag, seconds: HOLD_SECONDS + PATIENCE_SECONDS, signal });
      if (answer.status !== 200) continue;
      this.#show(card, answer.body, answer.etag);
      this.#announce();
      if (!card.live) this.wake();
    }
  }

  #tell(job, what) {
    this.#news.push(`${job.kind} of ${job.phone_number}: ${what}`);
  }

  #announce() {
    if (this.#news.length > 3) this.#news = [`${this.#news.length} changes`];
    if (this.#news.length > 0) $("news").textContent = `${this.#news.join(". ")}.`;
    this.#news = [];
  }

  tick() {
    for (const card of this.#cards.values()) if (card.live) card.tick();
  }
}

function showCounts(list, counts) {
  for (const [state, count] of Object.entries(counts)) {
    let tile = list.querySelector(`[data-state="${CSS.escape(state)}"]`);
    if (tile === null) {
      tile = element("div");
      tile.dataset.state = state;
      tile.append(element("dt", "", state), element("dd"));
      list.append(tile);
    }
    tile.className = `tile ${count === 0 ? "none" : LOOKS[state] ?? ""}`;
    write(tile.lastElementChild, count.toLocaleString());
  }
}

// The page

let session = null;
let board = null;

function connected(how, message = "", seconds = 0) {
  const words = { live: "Live", paused: "Paused", away: `Trying again in ${seconds} s` };
  $("lamp").className = `lamp ${how}`;
  write($("connection-text"), words[how]);
  $("connection").hidden = false;
  const trouble = $("trouble");
  trouble.hidden = how !== "away";
  if (how === "away") {
    const said = `${message} What is shown may be out of date.`;
    if (trouble.textContent !== said) $("news").textContent = said;
    write(trouble, said);
  } else if (how === "live" && trouble.textContent !== "") {
    trouble.textContent = "";
    $("news").textContent = "The API answers again.";
  }
}

function ask(message = "") {
  session?.end();
  session = board = null;
  $("board").hidden = $("forget").hidden = $("connection").hidden = true;
  $("entry").hidden = false;
  for (const id of ["jobs", "open", "ended"]) $(id).replaceChildren();
  $("trouble").textContent = "";
  $("news").textContent = "";
  $("key").value = "";
  $("key").setAttribute("aria-invalid", String(message !== ""));
  write($("key-error"), message);
  $("show").disabled = false;
  $("key").focus();
}

async function begin(key) {
  const mine = (session = new Session(key));
  board = new Board(mine);
  $("show").disabled = true;
  try {
    await board.run((how, message, seconds) => {
      if (session !== mine) return;
      if (how === "live" && $("board").hidden) $("main").focus();
      $("entry").hidden = true;
      $("board").hidden = $("forget").hidden = false;
      connected(how, message, seconds);
    });
  } catch (error) {
    if (session !== mine) return;
    ask(error instanceof Refused ? error.message : "This page broke down. Reload it.");
    if (!(error instanceof Refused)) throw error;
  }
}

$("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key").value.trim();
  $("key").value = "";
  if (!KEY.test(key)) {
    ask("Enter an API key, as it was given to you.");
    return;
  }
  begin(key);
});
$("forget").addEventListener("click", () => ask());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) board?.pause();
  else board?.wake();
});
window.addEventListener("online", () => board?.wake());
// A page that comes back from a browser's memory has forgotten its key.
window.addEventListener("pagehide", () => ask());
setInterval(() => {
  if (!document.hidden) board?.tick();
}, 1000);
