// What the authorization server remembers: maps that forget nothing but what is destroyed. Whether a token has
// expired the server looks up itself. The store that comes with it keeps its last thousand entries alone, and a
// test may make more.

export class Store {
  #models = new Map();

  // The factory that the server wants: one adapter for each of its models.
  adapter() {
    return (model) => this.model(model);
  }

  model(name) {
    if (!this.#models.has(name)) this.#models.set(name, new Model(this));
    return this.#models.get(name);
  }

  revokeGrant(grantId) {
    for (const model of this.#models.values()) model.forget((payload) => payload.grantId === grantId);
  }
}

class Model {
  #rows = new Map();
  #store;

  constructor(store) {
    this.#store = store;
  }

  async upsert(id, payload) {
    this.#rows.set(id, payload);
  }

  async find(id) {
    return this.#rows.get(id);
  }

  async findByUid(uid) {
    return this.rows().find((payload) => payload.uid === uid);
  }

  async findByUserCode(userCode) {
    return this.rows().find((payload) => payload.userCode === userCode);
  }

  async consume(id) {
    const payload = this.#rows.get(id);
    if (payload) payload.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    this.#rows.delete(id);
  }

  async revokeByGrantId(grantId) {
    this.#store.revokeGrant(grantId);
  }

  rows() {
    return [...this.#rows.values()];
  }

  forget(which) {
    for (const [id, payload] of this.#rows) if (which(payload)) this.#rows.delete(id);
  }
}
