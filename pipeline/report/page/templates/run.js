// Reloads the page while the run lasts, keeps the tasks open that the reader has opened, and marks a page that has not
// been updated for `patience` seconds as gone.
const all = [...document.querySelectorAll('details')], name = 'open ' + document.title;
const kept = JSON.parse(sessionStorage.getItem(name) || '{}');
for (const one of all) {
  if (one.id in kept) one.open = kept[one.id];
  one.addEventListener('toggle', () => {
    kept[one.id] = one.open;
    sessionStorage.setItem(name, JSON.stringify(kept));
  });
}
const body = document.body.dataset, age = Date.now() / 1000 - body.written;
if (body.state === 'running') {
  if (age > body.patience) {
    const state = document.querySelector('.state');
    state.textContent = 'gone'; state.className = 'state gone';
    document.querySelector('.gone-note').textContent = 'Not updated for ' + Math.round(age / 60) + ' minutes.';
  }
  setTimeout(() => location.reload(), 1000 * body.refresh);
}
