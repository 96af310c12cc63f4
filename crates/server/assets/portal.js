// Pages of the portal work without this, but for passkeys. It copies, and keeps a form from being sent twice.

document.documentElement.classList.add("js");

const said = document.getElementById("said");

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const from = document.getElementById(button.dataset.copy);
  await navigator.clipboard.writeText(from.value ?? from.textContent);
  button.dataset.done = "";
  said.textContent = "";
  said.textContent = said.dataset.copied;
  setTimeout(() => delete button.dataset.done, 2000);
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  // What a form answers with may be a file, and the page stays.
  if (form.method !== "post" || "again" in form.dataset) return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "1";
  if (event.submitter) event.submitter.setAttribute("aria-busy", "true");
});

// A page that comes back from the browser's memory can be sent again.
window.addEventListener("pageshow", () => {
  for (const form of document.forms) {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
  }
});

// Parts of a page that follow what happens: drawn anew by the server, and put in place of the old. They wait while somebody is at them.
const LIVE_EVERY_MS = 2000;

async function follow(part) {
  const { live, liveUntil } = part.dataset;
  if (liveUntil && part.querySelector(liveUntil)) return;
  for (;;) {
    await new Promise((done) => setTimeout(done, LIVE_EVERY_MS));
    if (document.hidden || "paused" in part.dataset || part.matches(":hover") || part.contains(document.activeElement)) continue;
    let fresh;
    try {
      const answer = await fetch(live);
      // Signed out, or gone: the page says so itself.
      if (answer.redirected || answer.status === 404) return location.reload();
      if (!answer.ok) continue;
      fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(part.id);
    } catch {
      continue;
    }
    if (!fresh) return;
    if (liveUntil && fresh.querySelector(liveUntil)) return location.reload();
    const known = new Set([...part.querySelectorAll("[data-id]")].map((row) => row.dataset.id));
    let added = 0;
    for (const row of fresh.querySelectorAll("[data-id]")) {
      if (known.has(row.dataset.id)) continue;
      added += 1;
      if (known.size) row.classList.add("is-new");
    }
    // Somebody may have come to it, or held it, while it was fetched.
    if ("paused" in part.dataset || part.contains(document.activeElement)) continue;
    // What is the same is left alone, so that nobody is told of it.
    if (part.innerHTML !== fresh.innerHTML) part.replaceChildren(...fresh.childNodes);
    const says = document.querySelector(`[data-live-says="${part.id}"]`);
    if (says && added) says.textContent = says.dataset.new.replace("#", added);
  }
}

for (const button of document.querySelectorAll("[data-live-pause]")) {
  const part = document.getElementById(button.dataset.livePause);
  button.addEventListener("click", () => {
    const paused = part.toggleAttribute("data-paused");
    for (const words of button.querySelectorAll("[data-when]")) words.hidden = (words.dataset.when === "paused") !== paused;
  });
}

for (const part of document.querySelectorAll("[data-live]")) follow(part);

// A menu ends with Escape, or when somebody goes elsewhere.
for (const menu of document.querySelectorAll("details.menu")) {
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
}

// What was wrong is where one goes on: at its field, or at what is said of the form.
const refused = document.querySelector("main [aria-invalid='true']") ?? document.querySelector("main .note[role='alert']");
if (refused) {
  if (refused.matches(".note")) refused.tabIndex = -1;
  refused.focus();
}

// The look of an app, tried on while it is typed: the server makes the style of the colours, which therefore stay readable.
const PREVIEW_AFTER_MS = 150;
const LOGO_PX_MAX = 256;

for (const form of document.querySelectorAll("form[data-preview]")) {
  const preview = document.getElementById(form.dataset.preview);
  const style = document.getElementById("preview-style");
  let waiting;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const address = new URL(style.href);
      for (const field of ["accent_color", "background_color"]) address.searchParams.set(field, form.elements[field].value);
      if (address.href !== style.href) style.href = address.href;
      const name = form.elements.display_name.value.trim() || preview.dataset.usual;
      for (const place of preview.querySelectorAll("bdi")) {
        if (place.textContent === preview.dataset.name) place.textContent = name;
      }
      const mark = preview.querySelector(".pmark--app");
      if (mark) mark.textContent = (name.match(/[\p{L}\p{N}]/u) || ["?"])[0].toUpperCase();
      preview.dataset.name = name;
    }, PREVIEW_AFTER_MS);
  });
  // A picture that was chosen, as it will be drawn; one that is none is refused when it is sent.
  form.elements.logo.addEventListener("change", async () => {
    const [file] = form.elements.logo.files;
    const picture = file && (await createImageBitmap(file).catch(() => null));
    const before = preview.querySelector(".logo, .pmark--app");
    if (!picture || !before) return;
    const canvas = document.createElement("canvas");
    const shrink = Math.min(1, LOGO_PX_MAX / Math.max(picture.width, picture.height));
    canvas.className = "logo";
    canvas.width = Math.max(1, Math.round(picture.width * shrink));
    canvas.height = Math.max(1, Math.round(picture.height * shrink));
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    before.replaceWith(canvas);
  });
}

// Passkeys: the device is asked, and what it says is sent with the form that the button stands in.
const encoded = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer ?? []))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const decoded = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const DEVICE_WAITS_MS = 120_000;

async function askDevice({ passkey, challenge, host, known, user, email }) {
  const asked = { challenge: decoded(challenge), timeout: DEVICE_WAITS_MS };
  const ids = known.split(" ").filter(Boolean).map((id) => ({ type: "public-key", id: decoded(id) }));
  if (passkey === "ask") {
    const publicKey = { ...asked, rpId: host, allowCredentials: ids, userVerification: "required" };
    const { rawId, response } = await navigator.credentials.get({ publicKey });
    const { userHandle, clientDataJSON, authenticatorData, signature } = response;
    return { id: rawId, user: userHandle, client_data: clientDataJSON, device_data: authenticatorData, signature };
  }
  const publicKey = {
    ...asked,
    rp: { id: host, name: "grantd" },
    user: { id: decoded(user), name: email, displayName: email },
    pubKeyCredParams: [-7, -8, -257].map((alg) => ({ type: "public-key", alg })),
    authenticatorSelection: { residentKey: "required", requireResidentKey: true, userVerification: "required" },
    excludeCredentials: ids,
    attestation: "none",
  };
  const { response } = await navigator.credentials.create({ publicKey });
  return { client_data: response.clientDataJSON, attestation: response.attestationObject };
}

for (const button of document.querySelectorAll("[data-passkey]")) {
  const { form } = button;
  const says = (what) => {
    for (const part of form.querySelectorAll("[data-says]")) part.hidden = part.dataset.says !== what;
  };
  if (!window.PublicKeyCredential) {
    button.hidden = true;
    says("none");
    continue;
  }
  button.addEventListener("click", async () => {
    if (button.hasAttribute("aria-busy") || !form.reportValidity()) return;
    says("");
    button.setAttribute("aria-busy", "true");
    try {
      for (const [name, value] of Object.entries(await askDevice(button.dataset))) {
        form.elements.namedItem(name).value = encoded(value);
      }
      form.elements.namedItem("challenge").value = button.dataset.challenge;
      form.requestSubmit();
    } catch (error) {
      says(error.name === "InvalidStateError" ? "known" : "nothing");
    }
    button.removeAttribute("aria-busy");
  });
  // Browsers fill fields in again, these too, when somebody comes back: what was said has been used up then.
  window.addEventListener("pageshow", () => {
    for (const field of form.querySelectorAll("[data-said]")) field.value = "";
  });
  // Enter in the name's field asks the device, too.
  form.addEventListener("submit", (event) => {
    if (button.dataset.passkey !== "make" || form.elements.namedItem("challenge").value) return;
    event.preventDefault();
    event.stopPropagation();
    button.click();
  });
}
