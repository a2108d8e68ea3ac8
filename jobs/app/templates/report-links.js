// Added to the report's pages where the app serves them: the way from a card or a call into the app.
"use strict";
(() => {
  const idIn = (address) => /([0-9a-f]{16})\.html$/.exec(address ?? "")?.[1];
  const add = (place, id) => {
    if (!place || !id) return;
    const link = Object.assign(document.createElement("a"), { href: `/calls?call=${id}`, className: "in-app", textContent: words.play });
    place.append(" · ", link);
  };
  for (const card of document.querySelectorAll("article.card")) add(card.querySelector(".origin"), idIn(card.querySelector("h3 a")?.href));
  add(document.querySelector(".crumb"), idIn(location.pathname));
  const review = Object.assign(document.createElement("a"), { href: "/review", textContent: words.review });
  document.querySelector("header nav")?.prepend(review, " ");
})();
