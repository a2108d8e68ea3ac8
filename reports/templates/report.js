// Playback of evidence clips and sorting of tables. Pages read well without it: clips open as files.
"use strict";
(() => {
  let sounding = null;

  const playerOf = (link) => link.nextElementSibling;

  function stop() {
    if (!sounding) return;
    const { link, player } = sounding;
    sounding = null;
    player.pause();
    link.classList.remove("playing");
    link.removeAttribute("aria-pressed");
    link.querySelector(".icon").textContent = "▶";
    for (const head of document.querySelectorAll(".playhead")) head.hidden = true;
    markSpoken(-1);
  }

  // The line of the transcript that is heard.
  function markSpoken(at) {
    for (const line of document.querySelectorAll(".spoken li")) {
      line.classList.toggle("now", Number(line.dataset.start) <= at && at < Number(line.dataset.end));
    }
  }

  function follow(link, player) {
    const timeline = document.querySelector(".timeline");
    if (!timeline) return;
    const heads = timeline.querySelectorAll(".playhead");
    for (const head of heads) head.hidden = false;
    const step = () => {
      if (!sounding || sounding.player !== player) return;
      const at = Number(link.dataset.start) + player.currentTime;
      markSpoken(at);
      for (const head of heads) head.style.left = `${Math.min(100, (100 * at) / Number(timeline.dataset.duration))}%`;
      requestAnimationFrame(step);
    };
    step();
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest(".play:not(.off)");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const again = sounding && sounding.link === link;
    stop();
    if (again) return;
    const player = playerOf(link);
    sounding = { link, player };
    player.currentTime = 0;
    player.onended = stop;
    // A clip that the browser cannot play is opened as a file.
    player.play().then(() => follow(link, player), () => { if (sounding && sounding.link === link) { stop(); if (link.href) location.assign(link.href); } });
    link.classList.add("playing");
    link.querySelector(".icon").textContent = "■";
  });

  for (const link of document.querySelectorAll("a.play")) {
    link.setAttribute("role", "button");
    link.addEventListener("keydown", (event) => {
      if (event.key === " ") { event.preventDefault(); link.click(); }
    });
  }

  for (const command of document.querySelectorAll("code[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${command.textContent}`);
    button.addEventListener("click", () => {
      getSelection().selectAllChildren(command);
      document.execCommand("copy"); // also where a page opened from a file has no clipboard
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    command.after(" ", button);
  }

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort ?? cell.textContent.trim();
  };
  const compare = (a, b) => (a !== "" && b !== "" && !isNaN(a) && !isNaN(b) ? a - b : a.localeCompare(b, undefined, { numeric: true }));

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = header.textContent;
      header.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = header.getAttribute("aria-sort") === "ascending";
        for (const other of headers) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows].sort((a, b) => compare(key(a, column), key(b, column)));
        if (down) rows.reverse();
        body.append(...rows);
      });
    });
  }
})();
