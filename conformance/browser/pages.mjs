// The pages of the authorization server: sign-in, with one field, and consent, with a box for each scope.

const escape = (text) => String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

const page = (title, body) => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{font:16px/1.5 sans-serif;max-width:26rem;margin:3rem auto;padding:0 1rem}
input[type=text]{width:100%;font:inherit;padding:.5rem;box-sizing:border-box}
button{font:inherit;padding:.5rem 1rem;margin:1rem .5rem 0 0}</style></head>
<body><main><h1>${escape(title)}</h1>${body}</main></body></html>`;

export const signIn = (uid, hint) =>
  page(
    'Sign in to Example Accounts',
    `<form method="post" action="/interaction/${uid}">
<label for="account">Account</label>
<input type="text" id="account" name="account" value="${escape(hint)}" autocomplete="off" required autofocus>
<button name="do" value="sign-in">Sign in</button>
<button name="do" value="cancel" formnovalidate>Cancel</button></form>`,
  );

export const consent = (uid, client, account, scopes) => {
  const box = (scope) =>
    `<p><label><input type="checkbox" name="scope" value="${escape(scope)}" checked> ${escape(scope)}</label></p>`;
  return page(
    `${client} wants to use your account`,
    `<p>You are signed in as <b>${escape(account)}</b>.</p>
<form method="post" action="/interaction/${uid}">${scopes.map(box).join('')}
<button name="do" value="allow">Allow</button>
<button name="do" value="deny">Deny</button></form>`,
  );
};
