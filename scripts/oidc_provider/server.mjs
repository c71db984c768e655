// A certified OpenID provider with people of its own, for the tests of sign-in. Not for anything else: it takes any password.
//
//   npm ci --prefix scripts/oidc_provider
//   node scripts/oidc_provider/server.mjs PORT RETURN_ADDRESS AFTER_SIGNING_OUT
//
// Prints `ready ISSUER` once it listens. Signs by RS256 with a key that it makes at its start.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import Provider from 'oidc-provider';

const [port, back, out] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

// What the provider says of whoever signs in under this name.
const people = {
  lin: { groups: ['call-desk', 'north'], email: 'lin@example.com', email_verified: true, name: 'Lin Yue' },
  olga: { groups: ['legal'], email: 'olga@example.com', email_verified: true, name: 'Olga' },
  root: { groups: ['it'], email: 'root@example.com', email_verified: true, name: 'Root' },
  guest: { groups: ['visitors'], email: 'guest@example.com', email_verified: true, name: 'Guest' },
};

const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'callvault',
    client_secret: 'secret of the tests: + % and more',
    redirect_uris: [back],
    post_logout_redirect_uris: [out],
    grant_types: ['authorization_code'],
    response_types: ['code'],
  }],
  claims: {
    openid: ['sub'],
    email: ['email', 'email_verified'],
    profile: ['name', 'preferred_username'],
    groups: ['groups'],
  },
  pkce: { methods: ['S256'], required: () => true },
  jwks: { keys: [{ ...key, kid: randomUUID(), use: 'sig', alg: 'RS256' }] },
  cookies: { keys: [randomUUID()] },
  features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, ...people[id] }),
  }),
});

const server = provider.listen(Number(port), '127.0.0.1', () => console.log(`ready ${issuer}`));
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => server.close(() => process.exit(0)));
}
// Whoever started this and is gone wants it no more.
process.stdin.on('end', () => process.exit(0)).resume();
