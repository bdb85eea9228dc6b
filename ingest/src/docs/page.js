'use strict';

// Renders the description beside which this page is served. It must not know any route: everything comes from there.

const METHODS = ['get', 'post', 'put', 'patch', 'delete'];
const DEPTH_MAX = 8;
const root = new URL('.', document.baseURI);

function element(name, properties, ...children) {
  const made = document.createElement(name);
  Object.assign(made, properties);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function resolve(api, thing) {
  let found = thing;
  for (let hops = 0; found && found.$ref && hops < DEPTH_MAX; hops += 1) {
    const steps = found.$ref.replace(/^#\//, '').split('/');
    found = steps.reduce((at, step) => at && at[step.replace(/~1/g, '/').replace(/~0/g, '~')], api);
  }
  return found || {};
}

// What may be null is described by its other form.
function plain(api, schema) {
  const found = resolve(api, schema);
  const forms = (found.oneOf || found.anyOf || found.allOf || []).filter((form) => form.type !== 'null');
  if (!found.properties && forms.length > 0) {
    const first = plain(api, forms[0]);
    return { ...first, description: found.description || first.description, forms };
  }
  return found;
}

function kindOf(schema) {
  const types = [].concat(schema.type || (schema.properties ? 'object' : 'anything'));
  const kind = types.filter((type) => type !== 'null').join(' or ') || 'null';
  const bounds = [];
  const say = (name, text) => { if (schema[name] !== undefined) bounds.push(`${text} ${schema[name]}`); };
  say('format', 'format');
  say('minimum', 'from');
  say('maximum', 'to');
  say('minLength', 'at least');
  say('maxLength', 'at most');
  say('minItems', 'at least');
  say('maxItems', 'at most');
  say('pattern', 'like');
  if (schema.enum) bounds.push(`one of ${schema.enum.map((value) => JSON.stringify(value)).join(', ')}`);
  if (types.includes('null')) bounds.push('or null');
  return [kind, ...bounds].join(', ');
}

function schemaView(api, schema, depth) {
  const found = plain(api, schema);
  const items = found.items && plain(api, found.items);
  const members = found.properties || (items && items.properties);
  if (!members || depth > DEPTH_MAX) return null;
  const required = new Set((items || found).required || []);
  const list = element('ul', { className: 'schema' });
  for (const [name, member] of Object.entries(members)) {
    const shape = plain(api, member);
    list.append(element('li', {},
      element('code', { textContent: name }),
      required.has(name) ? element('span', { className: 'required', textContent: ' required' }) : null,
      element('span', { className: 'kind', textContent: ` ${kindOf(shape)}` }),
      shape.description ? element('span', { className: 'says', textContent: shape.description }) : null,
      schemaView(api, member, depth + 1)));
  }
  return list;
}

function sample(api, schema, depth) {
  const found = plain(api, schema);
  if (found.example !== undefined) return found.example;
  if (found.examples && found.examples.length) return found.examples[0];
  if (found.default !== undefined) return found.default;
  if (found.enum) return found.enum[0];
  const type = [].concat(found.type || 'object').find((one) => one !== 'null');
  if (found.properties && depth < DEPTH_MAX) {
    const required = (found.required || []).map((name) => [name, sample(api, found.properties[name], depth + 1)]);
    return Object.fromEntries(required);
  }
  if (type === 'array') return found.items && depth < DEPTH_MAX ? [sample(api, found.items, depth + 1)] : [];
  return { string: 'text', integer: 1, number: 1, boolean: true }[type] ?? {};
}

function parametersView(api, parameters) {
  if (parameters.length === 0) return [];
  const rows = parameters.map((parameter) => element('tr', {},
    element('td', {}, element('code', { textContent: parameter.name }),
      parameter.required ? element('span', { className: 'required', textContent: ' required' }) : null),
    element('td', { textContent: parameter.in }),
    element('td', { className: 'kind', textContent: kindOf(plain(api, parameter.schema || {})) }),
    element('td', { textContent: parameter.description || '' })));
  const heads = ['Name', 'In', 'Type', ''].map((text) => element('th', { textContent: text }));
  return [element('h3', { textContent: 'Parameters' }), element('table', {}, element('tr', {}, ...heads), ...rows)];
}

function bodyOf(api, operation) {
  const body = resolve(api, operation.requestBody);
  return body.content ? Object.entries(body.content)[0] : null;
}

function answersView(api, operation) {
  const views = [element('h3', { textContent: 'Answers' })];
  for (const [status, answer] of Object.entries(operation.responses || {})) {
    const found = resolve(api, answer);
    const content = found.content && Object.values(found.content)[0];
    views.push(element('p', {}, element('code', { textContent: status }),
      element('span', { className: 'says', textContent: found.description || '' })));
    const view = content && content.schema && schemaView(api, content.schema, 0);
    if (view) views.push(view);
  }
  return views;
}

function credentials(headers) {
  const key = document.getElementById('key').value.trim();
  const token = document.getElementById('token').value.trim();
  if (key) headers.set('X-API-Key', key);
  if (token) headers.set('Authorization', `Bearer ${token}`);
}

async function send(parts, values, body, output) {
  const headers = new Headers();
  credentials(headers);
  const query = new URLSearchParams();
  let path = parts.path;
  for (const [parameter, value] of values) {
    if (parameter.in === 'path') path = path.replace(`{${parameter.name}}`, encodeURIComponent(value));
    else if (value !== '' && parameter.in === 'query') query.append(parameter.name, value);
    else if (value !== '' && parameter.in === 'header') headers.set(parameter.name, value);
  }
  const target = new URL(path.replace(/^\//, ''), root);
  target.search = query.toString();
  const options = { method: parts.method.toUpperCase(), headers, credentials: 'omit', cache: 'no-store' };
  if (body !== null) {
    headers.set('Content-Type', parts.media);
    options.body = body;
  }
  output.textContent = '…';
  output.className = '';
  try {
    const answer = await fetch(target, options);
    const text = await answer.text();
    let shown = text;
    try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* It is not JSON: shown as it is. */ }
    output.textContent = `${answer.status} ${answer.statusText}\n\n${shown}`;
    output.className = answer.ok ? '' : 'failed';
  } catch (error) {
    output.textContent = `No answer: ${error.message}`;
    output.className = 'failed';
  }
}

function tryView(api, parts, parameters, content) {
  const fields = parameters.map((parameter) => [parameter,
    element('input', { type: 'text', placeholder: parameter.required ? 'required' : '' })]);
  const labels = fields.map(([parameter, field]) => element('label', { textContent: parameter.name }, field));
  let body = null;
  if (content) {
    const text = JSON.stringify(sample(api, content[1].schema || {}, 0), null, 2);
    body = element('textarea', { value: text, spellcheck: false, ariaLabel: 'Body' });
  }
  const output = element('pre', { hidden: true, ariaLive: 'polite' });
  const button = element('button', { type: 'button', textContent: 'Send' });
  button.addEventListener('click', () => {
    output.hidden = false;
    const values = fields.map(([parameter, field]) => [parameter, field.value.trim()]);
    send({ ...parts, media: content ? content[0] : '' }, values, body && body.value, output);
  });
  return element('div', { className: 'try' }, element('h3', { textContent: 'Try it' }), ...labels, body, button, output);
}

function detail(api, parts, operation, shared) {
  const parameters = [...(shared || []), ...(operation.parameters || [])].map((one) => resolve(api, one));
  const content = bodyOf(api, operation);
  const views = [];
  if (operation.description) views.push(element('p', { textContent: operation.description }));
  const needs = (operation.security || []).flatMap((one) => Object.keys(one));
  if (needs.length) views.push(element('p', { className: 'hint', textContent: `Credential: ${needs.join(' or ')}` }));
  views.push(...parametersView(api, parameters));
  if (content) {
    views.push(element('h3', { textContent: `Body (${content[0]})` }));
    const view = schemaView(api, content[1].schema || {}, 0);
    if (view) views.push(view);
  }
  views.push(...answersView(api, operation), tryView(api, parts, parameters, content));
  return element('div', {}, ...views);
}

function operationView(api, path, method, operation, shared) {
  const id = operation.operationId || `${method} ${path}`;
  const summary = element('summary', {},
    element('span', { className: `method ${method}`, textContent: method.toUpperCase() }),
    element('code', { textContent: path }),
    element('span', { className: 'says', textContent: operation.summary || '' }));
  const view = element('details', { className: 'operation', id }, summary);
  // Drawn when it is opened: there are many.
  view.addEventListener('toggle', () => {
    if (view.open && view.childElementCount === 1) view.append(detail(api, { path, method }, operation, shared));
  });
  view.dataset.words = `${method} ${path} ${operation.summary || ''} ${id}`.toLowerCase();
  return view;
}

function draw(api) {
  document.title = `${api.info.title} API`;
  document.getElementById('about').textContent = `${api.info.description || ''} Version ${api.info.version}.`;
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((one) => item[one])) {
      const operation = item[method];
      const tag = (operation.tags || ['other'])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operationView(api, path, method, operation, item.parameters));
    }
  }
  const place = document.getElementById('operations');
  const index = document.getElementById('index');
  place.replaceChildren();
  for (const [tag, views] of groups) {
    place.append(element('section', {}, element('h2', { textContent: tag }), ...views));
    const links = views.map((view) => {
      const [method, path] = view.querySelector('summary').children;
      const link = element('a', { href: `#${view.id}` }, method.cloneNode(true), path.textContent);
      link.addEventListener('click', () => { view.open = true; });
      return link;
    });
    index.append(element('section', {}, element('h2', { textContent: tag }), ...links));
  }
}

function find(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll('#operations section')) {
    let shown = 0;
    for (const view of section.querySelectorAll('.operation')) {
      view.hidden = !wanted.every((word) => view.dataset.words.includes(word));
      shown += view.hidden ? 0 : 1;
    }
    section.hidden = shown === 0;
  }
}

function openNamed() {
  const view = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (view && view.classList.contains('operation')) {
    view.open = true;
    view.scrollIntoView();
  }
}

async function start() {
  document.getElementById('tools').addEventListener('submit', (event) => event.preventDefault());
  document.getElementById('find').addEventListener('input', (event) => find(event.target.value));
  addEventListener('hashchange', openNamed);
  try {
    const answer = await fetch(new URL('openapi.json', root), { credentials: 'omit' });
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
    draw(await answer.json());
    openNamed();
  } catch (error) {
    const state = element('p', { className: 'failed', textContent: `The description cannot be read: ${error.message}` });
    document.getElementById('operations').replaceChildren(state);
  }
}

start();
