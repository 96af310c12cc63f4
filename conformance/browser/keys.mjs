// The keys with which ID tokens are signed, and how they change.
//
// GET  /control/keys            {signs, published, fetched}: names of keys, and how often the set was asked for
// POST /control/keys {act}      publish: there is a new one, which signs nothing yet
//                               sign: the newest signs from now on
//                               replace: a new one signs from now on, and was not published before
//                               retire: only the one that signs is published

import { generateKeyPairSync, randomUUID } from 'node:crypto';

function made() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

export class Keys {
  fetched = 0;

  // The first signs.
  #keys = [made()];

  jwks() {
    return { keys: this.#keys };
  }

  answer(ctx, body, begin) {
    if (ctx.method === 'POST') {
      this.#act(JSON.parse(body).act);
      begin();
    }
    const names = this.#keys.map((key) => key.kid);
    ctx.status = 200;
    ctx.body = { signs: names[0], published: names, fetched: this.fetched };
  }

  #act(act) {
    if (act === 'publish') this.#keys.push(made());
    else if (act === 'sign') this.#keys.unshift(this.#keys.pop());
    else if (act === 'replace') this.#keys.unshift(made());
    else if (act === 'retire') this.#keys.splice(1);
    else throw new Error(`no such act: ${act}`);
  }
}
