for (const pair of document.querySelectorAll(".pair")) {
  const slider = pair.querySelector("input");
  const cut = () => pair.style.setProperty("--cut", slider.value + "%");
  slider.addEventListener("input", cut);
  cut();
}
