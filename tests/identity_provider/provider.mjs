// A certified OpenID provider for tests: oidc-provider with one client, any person, and keys that a test rotates.
//
//   node provider.mjs FOLDER PORT SITE
//
// FOLDER has the modules, SITE is the address of the gateway. It prints "ready" once it serves. Whoever opens the
// sign-in types a name; with `login_hint` nobody has to. POST /_test/rotate makes a new key, which signs from then on.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const [folder, port, site] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(`${folder}/node_modules/oidc-provider/lib/index.js`));
const issuer = `http://127.0.0.1:${port}`;

const keys = [];
const newKey = () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  keys.unshift({ ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), alg: 'RS256', use: 'sig' });
};

// The adapter's memory belongs to the module, so sign-ins in progress survive a change of keys.
const newProvider = () => {
  newKey();
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'safevideo',
      token_endpoint_auth_method: 'none',
      redirect_uris: [`${site}/auth/sso/callback`],
      post_logout_redirect_uris: [`${site}/`],
      backchannel_logout_uri: `${site}/auth/sso/backchannel-logout`,
      backchannel_logout_session_required: true,
    }],
    jwks: { keys },
    cookies: { keys: ['a key of this test'] },
    conformIdTokenClaims: false,
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    features: { devInteractions: { enabled: false }, backchannelLogout: { enabled: true } },
    // Without its dispatcher, which calls no address of this machine: the site's back channel is there.
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
    interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_context, sub) => ({
      accountId: sub,
      claims: () => ({ sub, name: sub, email: `${sub}@example.com`, email_verified: true }),
    }),
    loadExistingGrant: async (context) => {
      const existing = context.oidc.session.grantIdFor(context.oidc.client.clientId);
      if (existing) return context.oidc.provider.Grant.find(existing);
      const grant = new context.oidc.provider.Grant({
        clientId: context.oidc.client.clientId,
        accountId: context.oidc.session.accountId,
      });
      grant.addOIDCScope('openid email profile');
      await grant.save();
      return grant;
    },
    ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 3600, IdToken: 600, Interaction: 600, Session: 3600 },
  });
  const callback = provider.callback();
  return { provider, callback };
};

let current = newProvider();

const interact = async (request, response) => {
  const { prompt, params } = await current.provider.interactionDetails(request, response);
  let name = params.login_hint;
  if (request.method === 'POST') {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    name = new URLSearchParams(Buffer.concat(chunks).toString()).get('name');
  }
  if (!name) {
    response.setHeader('Content-Type', 'text/html');
    response.end(`<!doctype html><title>${prompt.name}</title><form method="post">
      <label>Name <input name="name" autofocus></label> <button>Sign in</button></form>`);
    return;
  }
  await current.provider.interactionFinished(request, response, { login: { accountId: name } });
};

createServer(async (request, response) => {
  try {
    if (request.method === 'POST' && request.url === '/_test/rotate') {
      current = newProvider();
      response.end(keys[0].kid);
    } else if (request.url.startsWith('/interaction/')) {
      await interact(request, response);
    } else {
      current.callback(request, response);
    }
  } catch (error) {
    response.statusCode = 500;
    response.end(String(error));
  }
}).listen(Number(port), '127.0.0.1', () => console.log('ready'));
