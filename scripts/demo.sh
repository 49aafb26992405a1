#!/usr/bin/env bash
# From nothing to a row in a real database. Run again, it finds everything in place.
source "$(dirname "$0")/lib.sh"
need_root
have_go=$(command -v go || true)
[ -n "$have_go" ] || [ -x bin/trove ] || die "Go is not installed: https://go.dev/doc/install, or apt-get install golang."
state=${TROVE_DEMO_STATE:-var/dev}
name=${TROVE_DEMO_NAME:-demo}
started=$SECONDS

scripts/install-packages.sh run
if [ -n "$have_go" ]; then
	say "building the binaries"
	make -s build
fi

say "building the MariaDB 10.11 image (about a minute the first time)"
bin/trove image build --state "$state" --datastore mariadb --datastore-version 10.11

say "starting the control plane"
bin/trove dev start --state "$state"
# shellcheck disable=SC1090,SC1091
. "$state/openrc"

credentials=$state/$name.cnf
if ! bin/trove instance show "$name" >/dev/null 2>&1 || [ ! -f "$credentials" ]; then
	bin/trove instance show "$name" >/dev/null 2>&1 && bin/trove instance delete "$name" --wait
	say "creating the instance $name: 1 GiB, database app, user app"
	umask 077
	password=$(head -c 18 /dev/urandom | base64 | tr '+/' 'ab')
	printf '[client]\nuser=app\npassword=%s\n' "$password" >"$credentials"
	printf '%s\n' "$password" | bin/trove instance create "$name" --flavor db.tiny --size 1 --database app --user app \
		--password-file - --wait
fi
address=$(bin/trove instance show "$name" -f value -c addresses)

say "writing and reading a row over TCP"
mariadb --defaults-extra-file="$credentials" --host="$address" app --table <<'SQL'
CREATE TABLE IF NOT EXISTS greeting (id INT AUTO_INCREMENT PRIMARY KEY, words TEXT NOT NULL, at TIMESTAMP NOT NULL DEFAULT NOW());
INSERT INTO greeting (words) VALUES ('hello from a real database');
SELECT * FROM greeting ORDER BY id DESC LIMIT 3;
SQL

cat <<END

Done in $((SECONDS - started)) s.

  connect      mariadb --defaults-extra-file=$credentials --host=$address app
  API          ${OS_AUTH_URL%/identity/v3}   (log in at $OS_AUTH_URL, region $OS_REGION_NAME, project $OS_PROJECT_NAME)
  go on        . $state/openrc
               trove instance list
               trove instance create more --flavor db.tiny --size 1 --wait
  stop         make stop       (the databases go on)
  remove all   make destroy
END
