// A card with the text of a mark that is pointed at or focused; the other methods fade. Details open when a link leads
// to them.
const card = document.getElementById('card');
for (const mark of document.querySelectorAll('.mark')) {
  const title = mark.querySelector('title');
  mark.dataset.text = title.textContent;
  title.remove();
}
function emphasize(name) {
  document.body.classList.toggle('emphasis', Boolean(name));
  for (const one of document.querySelectorAll('.on')) one.classList.remove('on');
  if (name) for (const one of document.querySelectorAll(`[data-series="${name}"]`)) one.classList.add('on');
}
function show(mark, x, y) {
  card.replaceChildren(...mark.dataset.text.split('\n').map((line, place) => {
    const element = document.createElement(place ? 'span' : 'b');
    element.textContent = line;
    return element;
  }));
  card.hidden = false;
  const width = card.offsetWidth, height = card.offsetHeight, room = document.documentElement.clientWidth;
  card.style.left = Math.max(8, Math.min(x + 14, room - width - 8)) + 'px';
  card.style.top = (y + 14 + height > innerHeight ? Math.max(8, y - height - 14) : y + 14) + 'px';
}
function hide() { card.hidden = true; emphasize(''); }
document.addEventListener('pointerover', event => {
  const mark = event.target.closest('.mark'), part = event.target.closest('[data-series]');
  if (mark) show(mark, event.clientX, event.clientY); else card.hidden = true;
  emphasize(part ? part.dataset.series : '');
});
document.addEventListener('focusin', event => {
  const mark = event.target.closest('.mark'), part = event.target.closest('[data-series]');
  if (mark && mark.matches(':focus-visible')) {
    const box = mark.getBoundingClientRect();
    show(mark, box.left + box.width / 2, box.top + box.height / 2);
  }
  if (part) emphasize(part.dataset.series);
});
document.addEventListener('focusout', hide);
document.addEventListener('keydown', event => { if (event.key === 'Escape') hide(); });
function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === 'DETAILS') { target.open = true; target.scrollIntoView(); }
}
addEventListener('hashchange', openTarget);
openTarget();
