// Sends with the npm package ibm-push-notifications as its readme says, and prints what came back: a line of JSON for each
// answer. HOST is the server, APP the application id; SECRET (legacy mode) or API_KEY (exchanged at the IAM host) signs.
const { PushNotifications, PushNotificationsWithApiKey, Notification, PushMessageBuilder: B } =
  require('ibm-push-notifications');

const { HOST, APP, SECRET, API_KEY, USER } = process.env;
PushNotifications.overrideServerHost = HOST;

const note = Notification
  .message(B.Message.alert('Your parcel is here').url('https://shop.example/7').build())
  .target(B.Target.userIds([USER]).build())
  .settings(B.Settings
    .apns(B.APNs.badge(3).type('MIXED').title('Parcel').sound('bell.caf').interactiveCategory('PARCEL')
      .payload({ order: 7 }).build())
    .fcm(B.FCM.priority('HIGH').timeToLive(600).androidTitle('Parcel').payload({ order: 7 })
      .style(B.FCMStyle.type('picture_notification').title('t').url('https://shop.example/7.png').build())
      .lights(B.FCMLights.ledArgb('GREEN').ledOnMs(500).ledOffMs('250').build())
      .visibility('PRIVATE').build())
    .build())
  .build();
// The builders are singletons, so a second message is a plain object.
const plain = (alert) => ({ json: { message: { alert }, target: { userIds: [USER] } } });

const told = (what) => (error, response, body) => {
  const status = response ? response.statusCode : 0;
  console.log(JSON.stringify({ what, error: error ? String(error) : null, status, body: String(body) }));
};
const send = (client) => {
  client.send(note, (...answer) => {
    told('send')(...answer);
    client.sendBulk([plain('first of many'), plain('second of many')], told('bulk'));
  });
};

const region = PushNotifications.Region.US_SOUTH;
if (SECRET) {
  send(new PushNotifications(region, APP, SECRET));
} else {
  const client = new PushNotificationsWithApiKey(region, APP, API_KEY);
  client.getAuthToken((hasToken, token) => {
    console.log(JSON.stringify({ what: 'token', status: hasToken ? 200 : 0, body: String(token).slice(0, 3) }));
    if (hasToken) send(client);
  });
}
