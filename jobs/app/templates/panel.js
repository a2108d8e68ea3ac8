// Puts finished markup into place and sends what was clicked back.
export default function ({ parentElement, data, setTriggerValue }) {
  const sheet = parentElement.querySelector(".sheet");
  if (sheet.shown !== data.html) {
    const focused = parentElement.activeElement && parentElement.activeElement.id;
    sheet.shown = data.html;
    sheet.innerHTML = data.html;
    if (focused) sheet.querySelector(`#${CSS.escape(focused)}`)?.focus();
  }
  sheet.onclick = (event) => {
    const sender = event.target.closest("[data-send]");
    if (sender) setTriggerValue("sent", sender.dataset.send);
    const moment = event.target.closest("[data-play]");
    if (moment) play(sheet, moment.dataset);
  };
  return () => sheet.player?.pause();
}

// From a place of a long recording to another; one sound at a time.
function play(sheet, { play: address, from, to }) {
  const player = (sheet.player ??= new Audio());
  if (player.address !== address) { player.address = address; player.src = address; }
  player.ontimeupdate = () => { if (player.currentTime >= Number(to)) player.pause(); };
  player.currentTime = Number(from);
  player.play().catch(() => {});
}
