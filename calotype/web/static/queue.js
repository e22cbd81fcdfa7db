customElements.define("ct-queue", class extends HTMLElement {});
