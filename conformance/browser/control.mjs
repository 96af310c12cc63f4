// What a test may do to the authorization server: add clients, make the next calls of one fail, and look at what it
// was asked.
//
// PUT  /control/clients/ID   {secret, redirect_uris, auth, ..settings}: makes or changes a client
// POST /control/clients/ID/faults   [{kind, ..}]: what happens to its next calls of the token endpoint, one each; one
//                                   with `always` to all that follow
// GET  /control/clients/ID/calls    its calls of the token, revocation and introspection endpoints, in order
// POST /control/clients/ID/revoke   {account}: the account's owner ends what they granted
// GET  /control/clients/ID/grants   what is granted to it and still there

import { createHash } from 'node:crypto';

const SETTINGS = {
  access_token_seconds: 3600, // At least; up to one more.
  account: null, // Who signs in and consents without being asked.
  groups: [], // Of whoever signs in.
  offline_scope: false, // Whether a refresh token takes the scope `offline_access`.
  pkce_required: true,
  rotates: true,
};

const COUNTED = { '/token': 'token', '/token/revocation': 'revocation', '/token/introspection': 'introspection' };

// A fault happens before the server sees the request, or in place of the answer it has made.
//   status  {status, retry_after?, body?}      slow  {seconds}      hang      drop  (all before)
//   lost: the server does what it was asked, and the connection ends instead of the answer
//   lost_status {status}: likewise, but with this status
const KINDS = ['status', 'slow', 'hang', 'drop', 'lost', 'lost_status', 'none'];

export class Control {
  #clients = new Map();
  #store;

  constructor(store) {
    this.#store = store;
  }

  settings(id) {
    return this.#client(id).settings;
  }

  #client(id) {
    if (!this.#clients.has(id)) this.#clients.set(id, { settings: { ...SETTINGS }, faults: [], calls: [] });
    return this.#clients.get(id);
  }

  // Stands around the endpoints that clients call.
  async around(ctx, next) {
    const endpoint = ctx.method === 'POST' ? COUNTED[ctx.path] : undefined;
    if (!endpoint) return next();
    // The server takes a text that was read before it: the stream is then at its end.
    ctx.req.body = await text(ctx.req);
    const form = new URLSearchParams(ctx.req.body);
    const client = this.#client(basic(ctx.get('authorization'))?.id ?? form.get('client_id') ?? '');
    const call = {
      endpoint,
      grant_type: form.get('grant_type'),
      auth: authOf(ctx, form),
      // Shows which calls presented the same one, and not what it is.
      refresh_token_digest: digest(form.get('refresh_token')),
      status: null,
      error: null,
      ended: false, // Until then nothing is known of its status.
    };
    client.calls.push(call);
    const fault = endpoint === 'token' ? (nextFault(client.faults)) : { kind: 'none' };
    call.fault = fault.kind;
    try {
      if (await before(ctx, fault)) return undefined;
      await next();
      if (ctx.body?.expires_in) ctx.body.expires_in -= 1;
      call.status = ctx.status;
      call.error = ctx.body?.error ?? null;
      after(ctx, fault);
    } finally {
      call.ended = true;
    }
    return undefined;
  }

  async answer(ctx, body) {
    const [, , , id, verb] = ctx.path.split('/').map(decodeURIComponent);
    const value = body ? JSON.parse(body) : {};
    const act = `${ctx.method} ${verb ?? ''}`.trim();
    ctx.status = 200;
    if (act === 'PUT') ctx.body = await this.#put(id, value);
    else if (act === 'POST faults') ctx.body = this.#fail(id, value);
    else if (act === 'GET calls') ctx.body = this.#client(id).calls;
    else if (act === 'GET grants') ctx.body = this.#grants(id).map(shown);
    else if (act === 'POST revoke') ctx.body = this.#revoke(id, value.account);
    else ctx.status = 404;
  }

  async #put(id, { secret, redirect_uris, auth, ...settings }) {
    const unknown = Object.keys(settings).filter((name) => !(name in SETTINGS));
    if (unknown.length) throw new Error(`no such settings: ${unknown}`);
    Object.assign(this.#client(id).settings, settings);
    if (redirect_uris) {
      await this.#store.model('Client').upsert(id, {
        client_id: id,
        client_secret: secret,
        redirect_uris,
        response_types: ['code'],
        grant_types: ['authorization_code', 'refresh_token'],
        token_endpoint_auth_method: auth,
      });
    }
    return this.#client(id).settings;
  }

  #fail(id, faults) {
    const unknown = faults.filter((fault) => !KINDS.includes(fault.kind));
    if (unknown.length) throw new Error(`no such faults: ${JSON.stringify(unknown)}`);
    this.#client(id).faults = faults;
    return faults;
  }

  #grants(id) {
    return this.#store.model('Grant').rows().filter((grant) => grant.clientId === id);
  }

  #revoke(id, account) {
    const ended = this.#grants(id).filter((grant) => grant.accountId === account);
    for (const grant of ended) {
      this.#store.revokeGrant(grant.jti);
      this.#store.model('Grant').destroy(grant.jti);
    }
    return ended.map(shown);
  }
}

// The next one; one that is for always stays.
function nextFault(faults) {
  if (!faults.length) return { kind: 'none' };
  return faults[0].always ? faults[0] : faults.shift();
}

const shown = (grant) => ({ account: grant.accountId, scope: grant.openid?.scope ?? '' });

// Whether the answer has been given.
async function before(ctx, fault) {
  switch (fault.kind) {
    case 'status':
      ctx.status = fault.status;
      if (fault.retry_after !== undefined) ctx.set('Retry-After', String(fault.retry_after));
      ctx.body = fault.body ?? { error: 'temporarily_unavailable' };
      return true;
    case 'hang':
      ctx.respond = false;
      return true;
    case 'drop':
      ctx.respond = false;
      ctx.req.socket.destroy();
      return true;
    case 'slow':
      await new Promise((resolve) => setTimeout(resolve, fault.seconds * 1000));
      return false;
    default:
      return false;
  }
}

function after(ctx, fault) {
  if (fault.kind === 'lost') {
    ctx.respond = false;
    ctx.req.socket.destroy();
  } else if (fault.kind === 'lost_status') {
    ctx.status = fault.status;
    ctx.body = { error: 'temporarily_unavailable' };
  }
}

export async function text(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

function basic(header) {
  const [scheme, value] = (header ?? '').split(' ');
  if (scheme.toLowerCase() !== 'basic' || !value) return undefined;
  const [id] = Buffer.from(value, 'base64').toString('utf8').split(':');
  return { id: decodeURIComponent(id) };
}

function digest(token) {
  return token === null ? null : createHash('sha256').update(token).digest('hex');
}

function authOf(ctx, form) {
  if (basic(ctx.get('authorization'))) return 'client_secret_basic';
  return form.has('client_secret') ? 'client_secret_post' : 'none';
}
