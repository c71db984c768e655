// Comfort only: everything works without it. One voice at a time, keys for the hands, a waveform to click.
(() => {
  "use strict";
  const players = [...document.querySelectorAll("audio")];
  const rows = [...document.querySelectorAll(".row")];
  const search = document.getElementById("q");

  document.addEventListener("play", (event) => {
    for (const player of players) if (player !== event.target) player.pause();
  }, true);

  const toggle = (player) => { if (player) player.paused ? player.play() : player.pause(); };
  const current = () => players.find((player) => !player.paused)
    || document.activeElement?.closest(".row")?.querySelector("audio")
    || (rows.length === 0 ? players[0] : undefined);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (target.closest("input, select, textarea")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    const player = current();
    const at = rows.indexOf(document.activeElement?.closest(".row"));
    switch (event.key) {
      case "/":
        if (!search) return;
        search.focus();
        search.select();
        break;
      case "j": rows[Math.min(at + 1, rows.length - 1)]?.focus(); break;
      case "k": rows[Math.max(at - 1, 0)]?.focus(); break;
      case "Enter":
        if (!target.matches(".row")) return;
        target.querySelector("a")?.click();
        break;
      case " ":
        if (target.closest("a, button, summary, audio") || !player) return;
        toggle(player);
        break;
      case "ArrowLeft":
      case "ArrowRight":
        if (target.closest("audio") || !player) return;
        player.currentTime += event.key === "ArrowLeft" ? -5 : 5;
        break;
      case "[":
      case "]":
        if (!player) return;
        player.playbackRate = Math.min(3, Math.max(0.5, player.playbackRate + (event.key === "[" ? -0.25 : 0.25)));
        break;
      default: return;
    }
    event.preventDefault();
  });

  const wave = document.querySelector(".wave");
  const player = players[0];
  if (wave && player) {
    const head = wave.querySelector(".head");
    const width = wave.viewBox.baseVal.width;
    const length = () => (Number.isFinite(player.duration) ? player.duration : 0);
    const draw = () => {
      const x = length() ? (player.currentTime / length()) * width : 0;
      head.setAttribute("x1", x);
      head.setAttribute("x2", x);
    };
    player.addEventListener("timeupdate", draw);
    player.addEventListener("seeked", draw);
    wave.addEventListener("click", (event) => {
      const box = wave.getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      const jump = () => { player.currentTime = share * length(); player.play(); };
      if (length()) jump();
      else {
        player.addEventListener("loadedmetadata", jump, { once: true });
        player.preload = "metadata";
        player.load();
      }
    });
  }
})();
