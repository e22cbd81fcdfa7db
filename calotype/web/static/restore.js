customElements.define("ct-restore", class extends HTMLElement {});
