// Comfort only: searching, reading and playing work without it.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const store = {
    get: (key) => { try { return localStorage.getItem(key); } catch { return null; } },
    set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* a private window remembers nothing */ } },
  };

  // Help.
  const help = $("help");
  // Strangers have no keys to be told of.
  if ($("help-open")) $("help-open").hidden = false;
  $("help-open")?.addEventListener("click", () => help.showModal());

  // Results as one types.
  const form = $("search");
  if (form) {
    const results = $("results");
    let timer, running;
    const address = () => {
      const fields = new URLSearchParams(new FormData(form));
      for (const [name, value] of [...fields]) if (!value.trim()) fields.delete(name);
      return fields;
    };
    const refresh = async () => {
      running?.abort();
      running = new AbortController();
      const fields = address();
      const shown = fields.toString();
      fields.set("part", "results");
      try {
        const answer = await fetch(`/?${fields}`, { signal: running.signal, headers: { Accept: "text/html" } });
        const text = await answer.text();
        if (answer.status >= 500 || answer.redirected) throw new Error(answer.status);
        results.innerHTML = text;
        $("live-problem").hidden = true;
        history.replaceState(null, "", shown ? `/?${shown}` : "/");
        showPlaying();
      } catch (error) {
        if (error.name !== "AbortError") $("live-problem").hidden = false;
      }
    };
    const soon = () => { clearTimeout(timer); timer = setTimeout(refresh, 180); };
    form.addEventListener("input", soon);
    form.addEventListener("change", soon);
    form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(timer); refresh(); });
  }

  // Tells the audit trail which seconds were really played.
  const listen = (audio, recording) => {
    let begin = null, last = null, parts = [];
    const close = () => {
      if (begin !== null && last !== null && last - begin > 0.05) parts.push([Math.round(begin * 1000), Math.round(last * 1000)]);
      begin = last = null;
    };
    const send = () => {
      close();
      if (parts.length === 0) return;
      const body = JSON.stringify({ parts_ms: parts.splice(0, 200) });
      const headers = { "Content-Type": "application/json", "x-callvault-word": document.body.dataset.word };
      // It outlives the page.
      fetch(`/api/v1/recordings/${recording()}/heard`, { method: "POST", body, headers, keepalive: true }).catch(() => {});
    };
    audio.addEventListener("timeupdate", () => {
      if (audio.paused || audio.seeking) return;
      const now = audio.currentTime;
      if (begin === null) begin = last = now;
      // A jump ends a part: at three times the speed updates are some 0.8 s apart.
      if (now < last || now - last > 1.5 * Math.max(1, audio.playbackRate)) { close(); begin = now; }
      last = now;
      if (last - begin > 30) { const at = last; send(); begin = last = at; }
    });
    audio.addEventListener("seeking", close);
    for (const name of ["pause", "ended", "emptied"]) audio.addEventListener(name, send);
    addEventListener("pagehide", send);
    document.addEventListener("visibilitychange", () => { if (document.visibilityState === "hidden") send(); });
    return send;
  };

  // The small player below the list.
  const dock = $("dock"), dockAudio = $("dock-audio");
  const rateKey = "speed";
  const remembered = () => { const rate = Number(store.get(rateKey)); return rate >= 0.5 && rate <= 3 ? rate : 1; };
  let docked = "";
  const showPlaying = () => {
    if (!dockAudio) return;
    for (const link of document.querySelectorAll(".play")) {
      link.classList.toggle("playing", link.dataset.audio === docked && !dockAudio.paused);
    }
  };
  if (dock) {
    const tell = listen(dockAudio, () => docked.split("/")[4]);
    for (const name of ["play", "pause", "ended"]) dockAudio.addEventListener(name, showPlaying);
    dockAudio.addEventListener("error", () => { $("dock-problem").hidden = false; });
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.(".play");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      if (docked !== link.dataset.audio) {
        tell();
        docked = link.dataset.audio;
        dockAudio.src = docked;
        dockAudio.playbackRate = dockAudio.defaultPlaybackRate = remembered();
        $("dock-problem").hidden = true;
        $("dock-open").href = link.href;
        $("dock-open").textContent = link.closest(".row").querySelector(".open").textContent.trim();
        dock.hidden = false;
      } else if (!dockAudio.paused) { dockAudio.pause(); return; }
      dockAudio.play().catch(() => {});
    });
  }

  // The player of a call.
  const box = $("player"), audio = $("audio");
  const player = box && audio ? (() => {
    const seek = $("seek"), head = $("head"), played = $("played-box"), passage = $("passage"), wave = seek.querySelector(".wave");
    const words = box.dataset, width = wave ? wave.viewBox.baseVal.width : 0;
    const length = () => (Number.isFinite(audio.duration) && audio.duration > 0 ? audio.duration : Number(words.duration) || 0);
    const clock = (s) => {
      s = Math.max(0, Math.floor(s + 0.001));
      const two = (n) => String(n).padStart(2, "0");
      return s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
    };
    const state = { loop: null, silence: false, level: false, sides: "0" };
    box.classList.add("scripted");
    audio.removeAttribute("controls");
    $("controls").hidden = false;
    listen(audio, () => words.recording);

    const draw = () => {
      const now = audio.currentTime, all = length();
      const x = all ? Math.min(1, now / all) * width : 0;
      head?.setAttribute("x1", x);
      head?.setAttribute("x2", x);
      played?.setAttribute("width", x);
      $("clock").textContent = `${clock(now)} / ${clock(all)}`;
      seek.setAttribute("aria-valuenow", now.toFixed(1));
      seek.setAttribute("aria-valuemax", all.toFixed(1));
      seek.setAttribute("aria-valuetext", `${clock(now)} / ${clock(all)}`);
      const at = $("mark-at");
      if (at && document.activeElement?.closest("#mark-form") === null) at.value = now.toFixed(1);
    };
    const jump = (to) => { audio.currentTime = Math.min(Math.max(0, to), Math.max(0, length() - 0.05)); draw(); };
    const toggle = () => { if (audio.paused) { wire(); audio.play().catch(() => {}); } else audio.pause(); };

    // Sound: two channels apart, and one loudness for both. Made at the first play, as browsers want it.
    let sound = null;
    const wire = () => {
      if (sound || !window.AudioContext) { sound?.context.resume(); return; }
      const context = new AudioContext();
      const source = context.createMediaElementSource(audio);
      const split = context.createChannelSplitter(2), gains = [context.createGain(), context.createGain()];
      const merge = context.createChannelMerger(2), press = context.createDynamicsCompressor(), lift = context.createGain();
      press.threshold.value = -38; press.ratio.value = 12; press.knee.value = 12; press.attack.value = 0.004; press.release.value = 0.3;
      sound = { context, source, split, gains, merge, press, lift };
      route();
      context.resume();
    };
    const route = () => {
      if (!sound) return;
      const { context, source, split, gains, merge, press, lift } = sound;
      for (const node of [source, split, ...gains, merge, press, lift]) node.disconnect();
      let out = source;
      if (words.channels === "2" && state.sides !== "0") {
        source.connect(split);
        const side = Number(state.sides) - 1;
        split.connect(gains[0], side);
        // One side is heard in both ears.
        gains[0].connect(merge, 0, 0);
        gains[0].connect(merge, 0, 1);
        out = merge;
      }
      if (state.level) { out.connect(press); press.connect(lift); lift.gain.value = 1.6; out = lift; }
      out.connect(context.destination);
    };

    const setRate = (rate) => {
      audio.playbackRate = audio.defaultPlaybackRate = rate;
      audio.preservesPitch = true;
      const choice = [...$("speed").options].find((option) => Number(option.value) === rate);
      if (choice) $("speed").value = choice.value;
      store.set(rateKey, String(rate));
    };
    const faster = (way) => {
      const rates = [...$("speed").options].map((option) => Number(option.value));
      const at = rates.findIndex((rate) => rate >= audio.playbackRate - 0.001);
      setRate(rates[Math.min(rates.length - 1, Math.max(0, at + way))]);
    };
    const press = (id, on) => $(id).setAttribute("aria-pressed", String(on));

    // Silence is what the waveform shows as silence on every channel, longer than a breath.
    let gaps = null;
    const findGaps = async () => {
      try {
        const peaks = await (await fetch(words.waveform)).json();
        const step = peaks.samples_per_pixel / peaks.sample_rate, n = peaks.channels * 2;
        const loud = (peaks.bits === 16 ? 32768 : 128) * 0.02;
        gaps = [];
        let from = null;
        for (let i = 0; i * n < peaks.data.length; i++) {
          let high = 0;
          for (let c = 0; c < n; c++) high = Math.max(high, Math.abs(peaks.data[i * n + c]));
          if (high > loud) { if (from !== null && i * step - from > 0.8) gaps.push([from + 0.25, i * step - 0.15]); from = null; }
          else if (from === null) from = i * step;
        }
      } catch { gaps = []; }
    };
    const setSilence = (on) => { state.silence = on; press("silence", on); store.set("silence", on ? "1" : ""); if (on && !gaps) findGaps(); };
    const setLevel = (on) => { state.level = on; press("level", on); store.set("level", on ? "1" : ""); route(); };
    const setSides = (sides) => { if (!$("sides")) return; state.sides = sides; $("sides").value = sides; route(); };
    const loop = () => {
      const now = audio.currentTime, button = $("loop");
      if (!state.loop) { state.loop = [now, null]; button.textContent = words.loopBegin; press("loop", true); }
      else if (state.loop[1] === null && now > state.loop[0] + 0.2) { state.loop[1] = now; button.textContent = words.loopOn; jump(state.loop[0]); }
      else { state.loop = null; button.textContent = words.loop; press("loop", false); }
      const [from, to] = state.loop ?? [0, 0], all = length() || 1;
      passage?.setAttribute("x", (from / all) * width);
      passage?.setAttribute("width", (Math.max(0, (to ?? from) - from) / all) * width);
    };
    const link = async () => {
      const to = `${location.origin}/recordings/${words.recording}?t=${Math.round(audio.currentTime * 10) / 10}`;
      history.replaceState(null, "", to);
      try { await navigator.clipboard.writeText(to); } catch { /* the address bar has it all the same */ }
      const button = $("copy"), before = button.textContent;
      button.textContent = words.copied;
      setTimeout(() => { button.textContent = before; }, 1500);
    };
    // Back to the same second after a mark, a note or a tag.
    for (const sent of document.querySelectorAll("article form")) {
      sent.addEventListener("submit", () => {
        const back = sent.querySelector("[name=back]");
        if (back) back.value = `/recordings/${words.recording}?t=${Math.round(audio.currentTime * 10) / 10}`;
      });
    }
    const mark = () => { const text = $("mark-text"); $("mark-at").value = audio.currentTime.toFixed(1); text.focus(); text.scrollIntoView({ block: "nearest" }); };

    let frame = 0;
    const tick = () => {
      const now = audio.currentTime;
      if (state.loop && state.loop[1] !== null && now >= state.loop[1]) jump(state.loop[0]);
      else if (state.silence && gaps) {
        const gap = gaps.find(([from, to]) => now >= from && now < to - 0.1);
        if (gap) jump(gap[1]);
      }
      draw();
      frame = audio.paused ? 0 : requestAnimationFrame(tick);
    };
    const playing = () => {
      const on = !audio.paused;
      $("toggle").classList.toggle("playing", on);
      $("toggle").setAttribute("aria-label", on ? words.pause : words.play);
      if (on && !frame) frame = requestAnimationFrame(tick);
    };
    for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, playing);
    for (const name of ["timeupdate", "seeked", "durationchange"]) audio.addEventListener(name, draw);
    // Loading may have begun before this script ran.
    const open = () => { const at = Number(words.at); if (at > 0 && Math.abs(audio.currentTime - at) > 0.05) jump(at); draw(); };
    if (audio.readyState > 0) open(); else audio.addEventListener("loadedmetadata", open, { once: true });

    // What went wrong, in words: the audio element itself does not tell.
    const failed = async () => {
      const shown = $("play-problem"), detail = $("play-detail");
      detail.textContent = "";
      shown.hidden = false;
      try {
        const answer = await fetch(audio.currentSrc, { headers: { Range: "bytes=0-0" } });
        if (!answer.ok) detail.textContent = (await answer.json()).detail ?? "";
      } catch { /* the server itself is away: the words above say enough */ }
    };
    audio.addEventListener("error", failed);
    if (audio.error) failed();
    $("again").addEventListener("click", () => {
      const at = audio.currentTime;
      $("play-problem").hidden = true;
      audio.load();
      audio.addEventListener("loadedmetadata", () => { jump(at); audio.play().catch(() => {}); }, { once: true });
    });

    $("toggle").addEventListener("click", toggle);
    $("back").addEventListener("click", () => jump(audio.currentTime - 10));
    $("ahead").addEventListener("click", () => jump(audio.currentTime + 10));
    $("speed").addEventListener("change", () => setRate(Number($("speed").value)));
    $("sides")?.addEventListener("change", () => setSides($("sides").value));
    $("silence").addEventListener("click", () => setSilence(!state.silence));
    $("level").addEventListener("click", () => setLevel(!state.level));
    $("loop").addEventListener("click", loop);
    $("copy").addEventListener("click", link);
    const point = (event) => { const at = seek.getBoundingClientRect(); jump(((event.clientX - at.left) / at.width) * length()); };
    seek.addEventListener("pointerdown", (event) => { if (event.button === 0) { point(event); seek.setPointerCapture(event.pointerId); } });
    seek.addEventListener("pointermove", (event) => { if (seek.hasPointerCapture(event.pointerId)) point(event); });
    for (const at of document.querySelectorAll("[data-seek]")) {
      at.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        jump(Number(at.dataset.seek));
        wire();
        audio.play().catch(() => {});
      });
    }
    setRate(remembered());
    setSilence(store.get("silence") === "1");
    setLevel(store.get("level") === "1");
    draw();
    return { toggle, jump, faster, loop, link, mark, setSilence, setLevel, setSides, state, by: (s) => jump(audio.currentTime + s) };
  })() : null;

  // Keys.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const target = event.target;
    if (target.closest("input, select, textarea")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    const rows = [...document.querySelectorAll(".row")];
    const at = rows.indexOf(document.activeElement?.closest(".row"));
    const onButton = target.closest("a, button, summary, audio");
    switch (event.key) {
      case "?": help.showModal(); break;
      case "/": {
        const search = $("q");
        if (!search) { location.href = "/"; break; }
        search.focus();
        search.select();
        break;
      }
      case "j": rows[Math.min(at + 1, rows.length - 1)]?.focus(); break;
      case "k": rows[Math.max(at - 1, 0)]?.focus(); break;
      case "Enter":
        if (!target.matches(".row")) return;
        target.querySelector(".open").click();
        break;
      case " ":
        if (onButton) return;
        if (player) player.toggle();
        else if (target.matches(".row")) target.querySelector(".play")?.click();
        else if (docked) dockAudio.paused ? dockAudio.play() : dockAudio.pause();
        else return;
        break;
      case "ArrowLeft":
      case "ArrowRight": {
        const by = (event.key === "ArrowLeft" ? -1 : 1) * (event.shiftKey ? 1 : 10);
        if (target.closest("audio")) return;
        if (player) player.by(by);
        else if (docked) dockAudio.currentTime += by;
        else return;
        break;
      }
      default: {
        if (!player) return;
        const act = {
          ",": () => player.by(-1), ".": () => player.by(1), "[": () => player.faster(-1), "]": () => player.faster(1),
          Home: () => player.jump(0), m: player.mark, l: player.loop, c: player.link,
          s: () => player.setSilence(!player.state.silence), v: () => player.setLevel(!player.state.level),
          0: () => player.setSides("0"), 1: () => player.setSides("1"), 2: () => player.setSides("2"),
        }[event.key];
        if (!act) return;
        act();
      }
    }
    event.preventDefault();
  });
})();
