// What the Connect pages do beyond HTML. Without it everything works but reading the link of the first page.
"use strict";

(() => {
  const by = (id) => document.getElementById(id);
  const show = (element, yes) => { if (element) element.hidden = !yes; };

  // The first page: what opens the session is in the fragment, so that no log has it. It leaves the address bar at once.
  const form = by("open");

  const fail = (text) => {
    show(by("waiting"), false);
    by("trouble-text").textContent = text;
    show(by("trouble"), true);
  };

  const open = async (session) => {
    show(form, false);
    show(by("trouble"), false);
    show(by("again"), false);
    show(by("waiting"), true);
    let answer;
    try {
      const response = await fetch(form.action, {
        method: "POST",
        headers: { Accept: "application/json" },
        body: new URLSearchParams({ session }),
        cache: "no-store",
        redirect: "error",
      });
      answer = await response.json();
    } catch {
      // Without an answer the link may still be good: what was read is kept for another try.
      fail(by("trouble").dataset.unreachable);
      show(by("again"), true);
      by("again").firstElementChild.onclick = () => open(session);
      by("again").firstElementChild.focus();
      return;
    }
    const next = answer && typeof answer.location === "string" ? new URL(answer.location, location.href) : null;
    if (next && next.origin === location.origin) {
      location.replace(next.href);
      return;
    }
    fail(answer && typeof answer.message === "string" ? answer.message : by("trouble").dataset.unreachable);
    show(form, true);
  };

  const read = () => {
    const session = new URLSearchParams(location.hash.slice(1)).get("session");
    if (location.hash) history.replaceState(null, "", location.pathname);
    if (session) open(session);
  };

  if (form) {
    addEventListener("hashchange", read);
    read();
  }

  // The last page: tell the window that opened this one, or go back to the app.
  const finished = by("finished");

  if (finished) {
    const { message, target, return: back } = finished.dataset;
    if (window.opener && target) {
      window.opener.postMessage(JSON.parse(message), target);
      by("closes").classList.remove("js-only");
      show(by("close"), false);
      // After the message: a window that is gone without one reads as the user's no.
      setTimeout(() => {
        window.close();
        // Not every window may be closed by its page.
        setTimeout(() => { by("closes").classList.add("js-only"); show(by("close"), true); }, 500);
      }, 250);
    } else if (back) {
      by("returns").classList.remove("js-only");
      location.replace(back);
    }
  }

  // A second press must not send a form again.
  addEventListener("submit", (event) => {
    if (event.target.dataset.sent) { event.preventDefault(); return; }
    event.target.dataset.sent = "yes";
    // A button may stand outside the form that it sends.
    const button = event.submitter || event.target.querySelector("button[type=submit]");
    if (button) button.setAttribute("aria-busy", "true");
  });
  // Nor may it stay disabled for who comes back.
  addEventListener("pageshow", () => {
    for (const sent of document.querySelectorAll("form[data-sent]")) {
      delete sent.dataset.sent;
      for (const button of sent.elements) button.removeAttribute("aria-busy");
    }
  });

  // A session that skips this page goes on by itself, but not for who came back to it.
  const direct = document.querySelector("form[data-direct]");
  const [entry] = performance.getEntriesByType("navigation");
  if (direct && !(entry && entry.type === "back_forward")) direct.requestSubmit();

  // Times in the reader's own zone, and in their way of writing this page's language.
  const { lang } = document.documentElement;
  const locale = navigator.languages.find((language) => language === lang || language.startsWith(lang + "-")) || lang;
  for (const time of document.querySelectorAll("time[data-local]")) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) {
      time.textContent = at.toLocaleString(locale, { dateStyle: "long", timeStyle: "short" });
    }
  }
})();
