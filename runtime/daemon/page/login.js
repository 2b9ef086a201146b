/** The form that a server with tokens shows first. */

import { logIn } from "./api.js";

export class Login {
  constructor(form, done) {
    this.form = form;
    this.problem = form.querySelector(".problem");
    this.field = form.querySelector("#token");
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      this.problem.textContent = "";
      try {
        await logIn(this.field.value);
        this.field.value = "";
        this.hide();
        done();
      } catch (error) {
        this.problem.textContent = error.status === 401 ? "This token is nobody's." : error.message;
        this.field.select();
      }
    });
  }

  show() {
    if (!this.form.hidden) return;
    this.form.hidden = false;
    this.field.focus();
  }

  hide() {
    this.form.hidden = true;
  }
}
