customElements.define("ct-gallery", class extends HTMLElement {});
