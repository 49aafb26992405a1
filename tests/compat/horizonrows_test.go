package compat_test

// brokenLogPages is what the pages of a log's text show: this dashboard calls a method of this client in a way that it does not have. With every server.
const brokenLogPages = "Unable to load general log.*unexpected keyword argument 'publish'"

// horizonRows are the pages and buttons of trove-dashboard. A row shows a page, submits a form with some of its fields filled in, or presses a button of a
// table, as a browser does: what Horizon does not offer, such as a button that the instance's status hides, is an error.
var horizonRows = []row{
	{cmd: "show /project/databases/", prints: "No items to display"},

	{cmd: "submit /project/database_configurations/create name=$p-c description=first datastore=$datastore,$version", prints: "Created configuration group"},
	{
		cmd: "show /project/database_configurations/", prints: `$p-c\|first\|$datastore\|$version`,
		save: `group ([0-9a-f-]{36})\|\|$p-c\|`,
	},
	{cmd: "submit /project/database_configurations/$group/add name=$parameter value=111", prints: "Successfully added parameter.*$parameter.111"},
	{cmd: "submit /project/database_configurations/$group/add name=$parameter value=many", fails: "Value must be a number"},
	{cmd: "submit /project/database_configurations/$group/add name=$parameter value=999999999", fails: "Value must be a number between"},
	{cmd: "show /project/database_configurations/$group/", prints: `$parameter\|$parameter.111|$parameter\|\|$parameter\|111`},
	{cmd: "press /project/database_configurations/$group/ values delete $parameter", prints: "Deleted Parameter: $parameter"},
	{cmd: "submit /project/database_configurations/$group/add name=$parameter value=112", prints: "Successfully added parameter.*$parameter.112"},
	{cmd: "show /project/database_configurations/$group/?tab=configuration_details__details_tab", prints: "$p-c.*first.*$datastore.*$version"},

	{cmd: "submit /project/databases/launch name=$p-1 'datastore=$datastore - $version' $flavorfield=db.tiny user=anna", fails: "You must specify a password"},
	{
		cmd: "submit /project/databases/launch name=$p-1 volume=1 'volume_type=No volume type' 'datastore=$datastore - $version' $flavorfield=db.tiny " +
			"network=default allowed_cidrs=10.0.0.0/8 databases=shop user=anna password=$password config=$p-c",
		prints: `Launched instance named "$p-1"`, save: `one ([0-9a-f-]{36})\|\|$p-1\|$datastore`, until: "$one ACTIVE",
	},
	{cmd: "show /project/databases/", prints: `$one\|\|$p-1\|$datastore\|$version\|[0-9.]+\|db.tiny\|512MB RAM\|-\|1GB\|Active\|HEALTHY`},
	{cmd: "show /project/databases/$one/", prints: "$p-1.*$datastore.*$version.*Active.*Healthy.*$group.*db.tiny.*512MB.*10.0.0.0/8.*mysql -h [0-9.]+"},
	{cmd: "show /project/databases/$absent/", fails: "Unable to retrieve details for database instance"},

	{cmd: "show /project/databases/$one/?tab=instance_details__users_tab", prints: `anna\|%\|shop`},
	{cmd: "show /project/databases/$one/?tab=instance_details__database_tab", prints: `shop\|\|shop`},
	{cmd: "submit /project/databases/$one/create_database name=second character_set=utf8 collation=utf8_general_ci", prints: `Created database "second"`},
	{cmd: "submit /project/databases/$one/create_user name=bert password=bert-$password databases=second", prints: `Created user "bert"`},
	{cmd: "submit /project/databases/$one/create_user name=bert password=bert-$password", fails: "Unable to create user"},
	{cmd: "submit /project/databases/$one/bert/%25/edit_user", fails: "A new name or new password or new host"},
	{cmd: "submit /project/databases/$one/bert/%25/edit_user new_name=berta new_password=other-$password", prints: `Updated user "bert"`},
	{cmd: "show /project/databases/$one/berta/%25/access_detail", prints: `second\|Yes.*shop\|No`},
	{cmd: "press /project/databases/$one/berta/%25/access_detail access grant_access shop", prints: "Granted Access to: shop"},
	{cmd: "press /project/databases/$one/berta/%25/access_detail access revoke_access second", prints: "Access Revoked to: second"},
	{cmd: "show /project/databases/$one/berta/%25/access_detail?again", prints: `second\|No.*shop\|Yes`},
	{cmd: "submit /project/databases/$one/create_user name=carl password=carl-$password host=10.1.2.3", prints: `Created user "carl"`},
	{cmd: "submit /project/databases/$one/carl/10.1.2.3/edit_user new_host=10.1.2.%", prints: `Updated user "carl"`},
	{cmd: "press /project/databases/$one/?tab=instance_details__users_tab users delete carl@10.1.2.%", prints: "Deleted User: carl"},
	{cmd: "show /project/databases/$one/?tab=instance_details__users_tab&again", prints: `anna@%\|\|anna\|%\|shop.*berta@%\|\|berta\|%\|shop\|`},
	{cmd: "press /project/databases/$one/?tab=instance_details__users_tab users delete berta@%", prints: "Deleted User: berta"},
	{cmd: "press /project/databases/$one/?tab=instance_details__database_tab databases delete second", prints: "Deleted Database: second"},

	{cmd: "show /project/databases/$one/manage_root", prints: `$p-1\|No`},
	{cmd: "press /project/databases/$one/manage_root manage_root enable_root_action $one", prints: `$p-1\|Yes\|\S+`},
	{cmd: "press /project/databases/$one/manage_root manage_root disable_root_action $one", prints: "Successfully disabled root access"},

	{cmd: "show /project/databases/$one/?tab=instance_details__logs_tab", prints: `general\|USER\|Disabled`},
	{cmd: "press /project/databases/$one/?tab=instance_details__logs_tab logs enable_log general", prints: "Enabled Log: general"},
	{cmd: "press /project/databases/$one/?tab=instance_details__logs_tab logs publish_log general", prints: "Published Log: general"},
	{cmd: "show /project/databases/$one/logs/general/log_contents", prints: brokenLogPages},
	{cmd: "show /project/databases/$one/logs/general/console?length=5", prints: brokenLogPages},
	{cmd: "show /project/databases/$one/logs/general/full_log", prints: brokenLogPages},
	{cmd: "show /project/databases/$one/logs/general/download_log", prints: brokenLogPages},
	{cmd: "press /project/databases/$one/?tab=instance_details__logs_tab logs discard_log general", prints: "Discarded Log: general"},
	{cmd: "press /project/databases/$one/?tab=instance_details__logs_tab logs disable_log general", prints: "Disabled Log: general"},
	{cmd: "show /project/databases/$one/?tab=instance_details__config_defaults", prints: `max_connections\|[0-9]+`},

	{cmd: "show /project/database_configurations/$group/?tab=configuration_details__instances_tab", prints: "$p-1"},
	{
		cmd:    "press /project/database_configurations/$group/?tab=configuration_details__instances_tab instances detach_configuration $one",
		prints: "Detached Configuration Group: $p-1", until: "$one ACTIVE",
	},
	{cmd: "submit /project/databases/$one/attach_config configuration=$p-c", prints: "Attaching Configuration group", until: "$one ACTIVE"},
	{cmd: "press /project/databases/ databases detach_configuration $one", prints: "Detached Configuration Group: $p-1", until: "$one ACTIVE"},
	{cmd: "press /project/database_configurations/ configurations delete $group", prints: "Deleted Configuration Group: $p-c"},

	{
		cmd:    "submit /project/databases/$one/edit_instance instance_name=$p-renamed allowed_cidrs=10.0.0.0/8,192.168.0.0/16",
		prints: `Instance "$p-renamed" successfully updated`, until: "$one ACTIVE",
	},
	{cmd: "show /project/databases/$one/?renamed", prints: "$p-renamed.*10.0.0.0/8.*192.168.0.0/16"},
	{cmd: "submit /project/databases/$one/edit_instance instance_name=$p-1", prints: `Instance "$p-1" successfully updated`, until: "$one ACTIVE"},
	{cmd: "submit /project/databases/$one/resize_volume new_size=1", fails: "New size for volume must be greater"},
	{cmd: "submit /project/databases/$one/resize_volume new_size=2", prints: "Resizing volume", until: "$one ACTIVE"},
	{cmd: "submit /project/databases/$one/resize_instance new_flavor=db.small", prints: "Resizing instance", until: "$one ACTIVE"},
	{cmd: "press /project/databases/ databases restart $one", prints: "Restarted Instance: $p-1", until: "$one ACTIVE"},
	{cmd: "show /project/databases/?after", prints: `$one\|\|$p-1\|$datastore\|$version\|[0-9.]+\|db.small\|1GB RAM\|-\|2GB\|Active\|HEALTHY`},

	{cmd: "submit /project/databases/$one/promote_to_replica_source", fails: "Unable to retrieve instance details. Details.replica_of"},
	{cmd: "press /project/databases/ databases eject_replica_source $one", prints: "Ejected Replica Source"},
	{
		// Its list of sources has instances of the status HEALTHY, which no Trove gives an instance.
		cmd:   "submit /project/databases/launch name=$p-r 'datastore=$datastore - $version' $flavorfield=db.tiny initial_state=master master=$p-1",
		fails: "No instances available",
	},
	{cmd: "press /project/databases/ databases detach_replica $one", prints: "Replica Detached"},

	{cmd: "show /project/database_backups/", prints: "No items to display"},
	{cmd: "submit /project/database_backups/create name=$p-b instance=$p-1 description=nightly", prints: `Scheduled backup "$p-b"`},
	{cmd: "press /project/database_backups/ backups delete $absent", prints: "Deleted Backup"},
	{cmd: "show /project/database_backups/$absent/", fails: "Unable to retrieve details for backup"},
	{cmd: "show /project/databases/$one/?tab=instance_details__backups_tab", prints: "No items to display"},

	{cmd: "show /project/database_clusters/", prints: "No items to display"},
	{
		cmd:    "submit /project/database_clusters/launch name=$p-k 'datastore=$datastore - $version' $flavorfield=db.tiny network=default volume=1 num_instances=3",
		prints: `Launched cluster "$p-k"`,
	},
	{cmd: "show /project/database_clusters/$absent/", fails: "Unable to retrieve details for database cluster"},
	{cmd: "press /project/database_clusters/ clusters delete $absent", prints: "Scheduled deletion of Cluster"},
	{
		cmd:    "press /project/database_clusters/$absent/cluster_grow_details cluster_grow_instances_table cluster_grow_remove_instance $absent",
		prints: "Removed Instance",
	},
	{
		cmd:    "press /project/database_clusters/$absent/cluster_shrink_details shrink_cluster_table cluster_shrink_action $absent",
		prints: "Cluster is being shrunk|Scheduled",
	},
	{cmd: "show /project/database_clusters/$absent/cluster_grow_details", fails: "Unable to retrieve cluster details"},
	{cmd: "submit /project/database_clusters/$absent/add_instance flavor=db.tiny name=$p-k-1", fails: "Unable to retrieve cluster details"},
	{cmd: "show /project/database_clusters/$absent/cluster_shrink_details", fails: "Unable to retrieve cluster details"},
	{cmd: "submit /project/database_clusters/$absent/reset_password password=$password", fails: "Unable to reset password"},

	{cmd: "press /project/databases/ databases delete $one", prints: "Scheduled deletion of Instance: $p-1", until: "$one gone"},
	{
		cmd:    "submit /project/databases/launch name=$p-2 'datastore=$datastore - $version' $flavorfield=db.tiny is_public=on",
		prints: `Launched instance named "$p-2"`, save: `two ([0-9a-f-]{36})\|\|$p-2\|$datastore`, until: "$two ACTIVE", admin: true,
	},
	{cmd: "show /project/databases/$two/", prints: `Is Public\s*\|Yes.*public\s*\|[0-9.]+`, admin: true},
	{cmd: "press /project/databases/ databases stop_database $two", prints: "Database Service stopped: $p-2", admin: true},
	{cmd: "wait /project/databases/ 'Active | Shutdown'", prints: `$two\|\|$p-2`, admin: true},
	{cmd: "press /project/databases/ databases restart $two", prints: "Restarted Instance: $p-2", admin: true, until: "$two ACTIVE"},
	{cmd: "press /project/databases/ databases delete $two", prints: "Scheduled deletion of Instance: $p-2", until: "$two gone", admin: true},
}
