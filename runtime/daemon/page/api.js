/** Asks the daemon. */

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function ask(path, options = {}) {
  const answer = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options });
  const value = await answer.json().catch(() => ({ error: `the server answered with ${answer.status}` }));
  if (!answer.ok) throw new Refused(answer.status, value.error ?? `the server answered with ${answer.status}`);
  return value;
}

export const logIn = (token) =>
  ask("/api/login", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });

export const logOut = () => ask("/api/logout", { method: "POST" });
