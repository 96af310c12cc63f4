// A real authorization server (oidc-provider) for the tests: PKCE, refresh tokens that rotate and whose second use
// ends the whole grant, revocation, introspection, any number of accounts, and pages to sign in and to consent.
//
// NODE_MODULES=DIR node authorization-server.mjs
//
// It prints the port it listens on, and ends when its standard input does. `/control/..` is for the test:
// `control.mjs` says what it can do, `keys.mjs` what `/control/keys` can.

import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { Control, text } from './control.mjs';
import { Keys } from './keys.mjs';
import * as pages from './pages.mjs';
import { Store } from './store.mjs';

const installed = createRequire(join(process.env.NODE_MODULES, 'package.json'));
const { Provider, interactionPolicy } = await import(pathToFileURL(installed.resolve('oidc-provider')));

// A scope of OpenID Connect, or of the API that this server stands for.
const SCOPES = ['openid', 'offline_access', 'mail.read', 'mail.send', 'calendar.read', 'calendar.write'];
const DAY_SECONDS = 86_400;

const store = new Store();
const control = new Control(store);
const keys = new Keys();
const settings = (client) => control.settings(client.clientId);

const account = (id, client) => {
  const groups = client ? settings(client).groups : [];
  const named = { sub: id, email: `${id}@example.test`, email_verified: true, name: `Account ${id}` };
  return { accountId: id, claims: () => (groups.length ? { ...named, groups } : named) };
};

// Nobody who is signed in is asked again to sign in, but everybody is asked for consent where `prompt` says so.
function configuration() {
  return {
    adapter: store.adapter(),
    claims: { openid: ['sub', 'groups'], email: ['email', 'email_verified'], profile: ['name'] },
    clients: [],
    conformIdTokenClaims: false,
    cookies: { keys: ['a key of a test server'] },
    expiresWithSession: async () => false,
    features: {
      devInteractions: { enabled: false },
      introspection: { enabled: true, allowedPolicy: async (_, client, token) => token.clientId === client.clientId },
      revocation: { enabled: true, allowedPolicy: async (_, client, token) => token.clientId === client.clientId },
      userinfo: { enabled: true },
    },
    findAccount: async (ctx, id) => account(id, ctx.oidc?.client),
    interactions: { policy: interactionPolicy.base(), url: (_, interaction) => `/interaction/${interaction.uid}` },
    jwks: keys.jwks(),
    issueRefreshToken: async (_, client, code) =>
      client.grantTypeAllowed('refresh_token') && (code.scopes.has('offline_access') || !settings(client).offline_scope),
    pkce: { required: (_, client) => settings(client).pkce_required },
    rotateRefreshToken: (ctx) => settings(ctx.oidc.client).rotates,
    scopes: SCOPES,
    ttl: {
      // It counts in whole seconds, so that a token would end up to one before its time: `control.mjs` says one less.
      AccessToken: (_, __, client) => settings(client).access_token_seconds + 1,
      AuthorizationCode: 60,
      Grant: 30 * DAY_SECONDS,
      IdToken: 3600,
      Interaction: 3600,
      RefreshToken: 30 * DAY_SECONDS,
      Session: DAY_SECONDS,
    },
  };
}

// What a person answered, or, for a login_hint of `auto:NAME` or a client with an automatic account, what they would.
async function interact(provider, ctx) {
  const details = await provider.interactionDetails(ctx.req, ctx.res);
  const { prompt, params, session, uid } = details;
  const hint = params.login_hint ?? '';
  const automatic = hint.startsWith('auto:') ? hint.slice('auto:'.length) : control.settings(params.client_id).account;
  if (ctx.method === 'POST') return answer(provider, ctx, details, new URLSearchParams(await text(ctx.req)));
  if (automatic && prompt.name === 'login') return finish(provider, ctx, { login: { accountId: automatic } });
  if (automatic) return grant(provider, ctx, details, prompt.details.missingOIDCScope ?? []);
  ctx.type = 'html';
  ctx.body =
    prompt.name === 'login'
      ? pages.signIn(uid, hint)
      : pages.consent(uid, params.client_id, session.accountId, prompt.details.missingOIDCScope ?? []);
}

async function answer(provider, ctx, details, form) {
  switch (form.get('do')) {
    case 'sign-in':
      return finish(provider, ctx, { login: { accountId: form.get('account') } });
    case 'allow':
      return grant(provider, ctx, details, form.getAll('scope'));
    default:
      return finish(provider, ctx, { error: 'access_denied', error_description: 'the user said no' });
  }
}

// Grants the scopes, and of those that were asked for refuses the others, so that nobody is asked again.
async function grant(provider, ctx, details, scopes) {
  const { grantId, params, prompt, session } = details;
  const given = grantId
    ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  const asked = prompt.details.missingOIDCScope ?? [];
  const allowed = asked.filter((scope) => scope === 'openid' || scopes.includes(scope));
  const refused = asked.filter((scope) => !allowed.includes(scope));
  if (allowed.length) given.addOIDCScope(allowed.join(' '));
  if (refused.length) given.rejectOIDCScope(refused.join(' '));
  if (prompt.details.missingOIDCClaims) given.addOIDCClaims(prompt.details.missingOIDCClaims);
  await finish(provider, ctx, { consent: { grantId: await given.save() } });
}

async function finish(provider, ctx, result) {
  ctx.respond = false;
  await provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: !result.error });
}

// The API behind the scopes: it answers whoever brings an access token that is alive.
async function api(provider, ctx) {
  const [scheme, value] = (ctx.get('authorization') ?? '').split(' ');
  const token = scheme.toLowerCase() === 'bearer' && value ? await provider.AccessToken.find(value) : undefined;
  if (!token?.isValid) {
    ctx.status = 401;
    ctx.set('WWW-Authenticate', 'Bearer error="invalid_token"');
    ctx.body = { error: 'invalid_token' };
    return;
  }
  ctx.body = { account: token.accountId, client: token.clientId, scope: token.scope ?? '', path: ctx.path };
}

async function route(provider, ctx, next) {
  if (ctx.path === '/control/keys') return keys.answer(ctx, await text(ctx.req), begin);
  if (ctx.path === '/jwks') keys.fetched += 1;
  if (ctx.path.startsWith('/control/')) return control.answer(ctx, await text(ctx.req));
  if (ctx.path.startsWith('/interaction/')) return interact(provider, ctx);
  if (ctx.path.startsWith('/api/')) return api(provider, ctx);
  return control.around(ctx, next);
}

const server = createServer((request, response) => handler(request, response));
// Longer than the clients keep an idle connection (5 s, Node's own default, too): else one is closed just as it is used again.
server.keepAliveTimeout = 60_000;
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

// What it knows is in the store, so that one with other keys goes on where the one before was.
let handler;
function begin() {
  const provider = new Provider(`http://127.0.0.1:${server.address().port}`, configuration());
  provider.use((ctx, next) => route(provider, ctx, next));
  provider.on('server_error', (_, error) => console.error(error));
  handler = provider.callback();
}
begin();
console.log(`listening on ${server.address().port}`);

process.stdin.resume();
process.stdin.once('end', () => process.exit(0));
