package mysql

// HashWith is for the tests in package mysql_test.
var HashWith = hashWith
