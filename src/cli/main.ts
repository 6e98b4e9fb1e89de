#!/usr/bin/env node
/**
 * The program `effect-webhooks`: runs what the arguments ask for and ends the process with its exit code.
 */
import { program } from "./Program.js"
import { runMain } from "./Runner.js"

runMain(program(process.argv.slice(2)))
