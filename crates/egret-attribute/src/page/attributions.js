// The slider says how opaque maps are over their inputs.
const slider = document.getElementById("over");
const show = () => document.documentElement.style.setProperty("--over", slider.value / 100);
slider.addEventListener("input", show);
show();
document.documentElement.dataset.ready = "true";
