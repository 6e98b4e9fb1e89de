/** Nothing: the command line makes no test data. */
export {}
